"""Natural mistakes on the command line: former names go on working, mistyped ones are answered with the right one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.cli.former import FORMER, current_words
from harness.cli.main import COMMANDS, build_parser, main

FORMERLY = [
    ("localize RUN --data D --subset test --out d.json", "predict RUN --data D --subset test --out d.json", "predict"),
    ("plan IV --format lines --only missing", "sweep IV --format lines --only missing --dry-run", "sweep --dry-run"),
    ("rescore s.toml --data D --json", "evaluate s.toml --data D --json --keep", "evaluate --keep"),
    ("compare --runs a b --per-class", "compare a b --per-class", "compare RUN ..."),
    ("compare --table I II", "paper compare --table I II", "paper compare --table"),
    ("compare --json", "paper compare --json", "paper compare --table"),
    ("compare --results R", "paper compare --results R", "paper compare --table"),
    ("compare", "paper compare", "paper compare --table"),
    ("audit --json", "paper audit --json", "paper audit"),
    ("cost --stored", "paper cost --stored", "paper cost"),
    ("robustness --seeds 2", "paper robustness --seeds 2", "paper robustness"),
    ("replay step.safetensors", "debug replay step.safetensors", "debug replay"),
    ("check determinism acmnet", "debug determinism acmnet", "debug determinism"),
    ("audit --json determinism acmnet --twins 2", "debug determinism --json acmnet --twins 2", "debug determinism"),
]


@pytest.mark.parametrize(("old", "new", "said"), FORMERLY)
def test_a_former_name_is_translated_with_one_line(
    old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert current_words(old.split()) == new.split()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f" is now called `wstal-bench {said}`.")
    # and is one that the parser takes
    assert build_parser().parse_args(new.split()).handle
    assert current_words(new.split()) == new.split()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("words", [["compare", "--help"], ["compare", "-h"], ["compare", "a", "b"], [], ["--version"]])
def test_words_of_today_are_left_alone(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert current_words(words) == words
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evalute x.json", "unknown command 'evalute'; did you mean 'evaluate'?"),
        ("records qury", "unknown action 'qury'; did you mean 'query'?"),
        ("paper audt", "unknown action 'audt'; did you mean 'audit'?"),
        ("ls optoins", "unknown value 'optoins'; did you mean 'options'?"),
        ("reproduce --profile quik", "argument --profile: unknown value 'quik'; did you mean 'quick'?"),
        ("run --methd acmnet", "unknown option '--methd'; did you mean `--method`?"),
        ("run --method=acmnet --sed=1", "unknown option '--sed'; did you mean `--seed`?"),
        ("run --method acmnet --epochs 3", "unknown option '--epochs'; did you mean `--set train.epochs=VALUE`?"),
        ("run --method acmnet --lr 1", "unknown option '--lr'; did you mean `--set train.learning_rate=VALUE`?"),
        ("sweep methods --batch_size 4", "did you mean `--set train.batch_size=VALUE`?"),
        ("evaluate d.json --anotations gt.json", "unknown option '--anotations'; did you mean `--annotations`?"),
        ("evaluate d.json --zzz", "unknown option '--zzz'"),
        ("--verson", "unknown option '--verson'; did you mean `--version`?"),
        ("evaluate d.json more", "unknown argument 'more'"),
        ("ls methods -x", "unknown option '-x'"),
        ("run acmnet --seed 1", "unknown argument 'acmnet'; did you mean `--method acmnet`?"),
        ("leaderboard mine", "unknown argument 'mine'; did you mean `--results mine`?"),
        ("paper audit mine", "unknown argument 'mine'"),
        ("run --seed 1", "one of the arguments --method --row is required"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_right_one(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    usage, error = err.splitlines()
    assert out == ""
    assert usage.startswith("usage: wstal-bench")
    assert "--help` explains it" in usage
    assert error.startswith(f"error: {message}") or message in error


def test_a_file_that_is_not_there_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "nowhere.json"]) == 3
    assert "Name a detection file, or the folder of a finished run" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["paper"], ["debug"], ["records"], ["data"]])
def test_a_command_without_its_action_shows_what_there_is(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert ("ACTION" if words else "COMMAND") in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"wstal-bench {version('wstal-bench')}\n"


def test_about_a_dozen_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out.split("commands:")[1].split("\n\n")[0]
    verbs = [line.split()[0] for line in shown.splitlines()[2:] if line.startswith("    ") and line[4] != " "]
    assert 12 <= len(verbs) <= 16
    assert set(verbs).isdisjoint(old.split()[0] for old, _, _ in FORMER)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "options", "acmnt"], "did you mean 'acmnet'"),
        (["ls", "runs", "acmnet"], "`ls options acmnet` does"),
        (["sweep", "methods", "--format", "lines"], "add --dry-run"),
        (["sweep", "methods", "--only", "missing"], "add --dry-run"),
        (["evaluate", "sources.toml"], "add --keep"),
        (["evaluate", __file__], "test_mistakes.py with --annotations"),
        (["reproduce", "thumos41"], "did you mean 'thumos14'"),
        (["reproduce", "kitchen"], "Give its folder with --data DIR"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_remedy(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_the_options_of_one_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "options", "acmnet"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["option", "default", "meaning"]
    assert "method.guide " in out
    (decay,) = (line for line in out.splitlines() if line.startswith("train.decay_every"))
    assert decay.split()[1] == "none"
    assert main(["ls", "options", "acmnet", "stpn"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[2:] if line[:1].strip()} == {
        "acmnet",
        "stpn",
    }


def test_the_page_of_commands_names_every_verb_and_every_former_name() -> None:
    page = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
    head, former = page.split("## Train")[0], page.split("## Former names")[1]
    assert re.findall(r"^\| `([a-z]+)` \|", head, re.MULTILINE) == COMMANDS.split()
    named = set(re.findall(r"`([a-z]+)(?= |`)", former))
    assert named >= {old.split()[0] for old, _, _ in FORMER} | {new.split()[0] for _, new, _ in FORMER}
