"""Commands by their names of earlier versions."""

from __future__ import annotations

from collections.abc import Sequence

from harness.io.console import say

# what a command line began with, what it begins with now, and what it ends with now
FORMER: tuple[tuple[str, str, str], ...] = (
    ("localize", "predict", ""),
    ("plan", "sweep", "--dry-run"),
    ("rescore", "evaluate", "--keep"),
    ("audit determinism", "debug determinism", ""),
    ("check determinism", "debug determinism", ""),
    ("check", "debug", ""),
    ("replay", "debug replay", ""),
    ("audit", "paper audit", ""),
    ("cost", "paper cost", ""),
    ("robustness", "paper robustness", ""),
)


def current_words(words: Sequence[str]) -> list[str]:
    """Return a command line as it is written today, with a note on stderr where it was written otherwise before.

    Args:
        words: of the command line, without the program's name.
    """
    words = list(words)
    if words[:1] == ["compare"]:
        return _current_comparison(words)
    for old, new, last in FORMER:
        first, _, second = old.partition(" ")
        if words[:1] == [first] and (not second or second in words):
            rest = [word for word in words[1:] if word != second]
            _note(old, f"{new} {last}".strip())
            return [*new.split(), *rest, *last.split()]
    return words


def _current_comparison(words: Sequence[str]) -> list[str]:
    """Return the words of `compare`, which had the runs after `--runs`, and without runs was about the paper."""
    rest = [word for word in words[1:] if word != "--runs"]
    if "--runs" in words:
        _note("compare --runs RUN ...", "compare RUN ...")
    elif "--table" in words or all(word in ("--json", "--results") for word in rest[:1]):
        _note("compare --table", "paper compare --table")
        return ["paper", *words]
    return ["compare", *rest]


def _note(old: str, new: str) -> None:
    say(f"`wstal-bench {old}` is now called `wstal-bench {new}`.")
