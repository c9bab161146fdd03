"""Small decisions of the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import build_parser, main
from harness.cli.planning import seeds_from
from wstal.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0-2", (0, 1, 2)), ("0,3,5", (0, 3, 5)), ("1-2,7", (1, 2, 7))]
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_from(text) == seeds


@pytest.mark.parametrize("text", ["", "2-0", "a", "1,1", "-1", "0-", "1;2", "0-99999999999"])
def test_wrong_seeds(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        seeds_from(text)


HELP: tuple[list[str], ...] = (
    [], ["reproduce"], ["run"], ["predict"], ["evaluate"], ["data", "verify"],
    ["data", "convert"], ["ls"], ["records", "query"], ["records", "diff"], ["records", "migrate"], ["records", "gc"],
    ["sweep"], ["leaderboard"], ["compare"], ["show"], ["diagnose"], ["paper"], ["paper", "compare"],
    ["paper", "audit"], ["paper", "cost"], ["paper", "robustness"], ["debug"], ["debug", "replay"],
    ["debug", "determinism"],
    ["debug", "sensitivity"],
)  # fmt: skip


def test_every_documented_command_is_one_that_the_parser_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in HELP:
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    text = (
        "\n".join(page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))) + capsys.readouterr().out
    )
    found = re.findall(r"^ *(wstal-bench .*)$", text.replace("\\\n", " "), re.MULTILINE)
    assert len(found) > 15
    for line in found:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        build_parser().parse_args(words[1:])


def test_every_documented_session_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]
    named = {session for page in pages for session in re.findall(r"nox -s ([\w-]+)", page.read_text())}
    source = (ROOT / "noxfile.py").read_text()
    sessions = {f.replace("_", "-") for f in re.findall(r"^@nox\.session.*\ndef (\w+)", source, re.MULTILINE)}
    assert named
    assert named <= sessions


LINKING = ("README.md", "CONTRIBUTING.md", "docs/*.md", "results/leaderboards/README.md", "results/robustness.md")


@pytest.mark.parametrize("page", [page for pattern in LINKING for page in sorted(ROOT.glob(pattern))], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    links += re.findall(r'(?:src|srcset)="([^"]+)"', text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_leads_to_every_page_of_the_docs() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)\)", (ROOT / "README.md").read_text()))
    assert {page.relative_to(ROOT).as_posix() for page in ROOT.glob("docs/*.md")} <= linked
