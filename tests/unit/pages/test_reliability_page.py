"""Figures of stress tests: from lines to the stored file to the page; and what the document beside it names."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli.options import Parser
from harness.pages.formats import files, markdown_page
from harness.pages.html import html_report
from harness.pages.reliability import reliability_page
from harness.pages.site import drifted, read_results, render, write
from harness.studies.reliability import ReliabilityFile, store_reliability
from tests.stress.report import report
from wstal.errors import StoreError, UserError

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "reliability.md"


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What three tests report, one of them twice."""
    path = tmp_path / "lines"
    monkeypatch.setenv("WSTAL_RELIABILITY", str(path))
    report("50 kills over a sweep", "11 of 12 records", "pytest old")
    report("a plan of 1,000 runs", "planned in 0.4 s | 3 µs\u2028each", "pytest tests/stress/test_scale.py")
    report("50 kills over a sweep", "12 of 12 records", "pytest tests/stress/test_kill.py")
    return path


def test_the_last_line_of_a_claim_is_stored_with_the_machine(lines: Path, tmp_path: Path) -> None:
    stored = store_reliability(lines, tmp_path / "results" / "reliability.json")
    assert ReliabilityFile.load(tmp_path / "results" / "reliability.json") == stored
    assert [(one.what, one.figure) for one in stored.figures] == [
        ("50 kills over a sweep", "12 of 12 records"),
        ("a plan of 1,000 runs", "planned in 0.4 s | 3 µs\u2028each"),
    ]
    assert stored.python == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "numpy"} <= stored.packages.keys()


def test_every_figure_stands_on_the_page_with_its_command(lines: Path, tmp_path: Path) -> None:
    path = tmp_path / "reliability.json"
    stored = store_reliability(lines, path)
    page = reliability_page(ReliabilityFile.load(path))
    assert page.path == "reliability"
    text = markdown_page(page)
    for one in stored.figures:
        assert f"| {one.what} " in text
        assert f"`{one.command}`" in text
    assert stored.date in text
    assert stored.cpu in text
    assert "not committed" not in markdown_page(rewritten(path, dirty=False))
    assert "not committed" in markdown_page(rewritten(path, dirty=True))
    assert "outside a checkout" in markdown_page(rewritten(path, commit=None, dirty=None))
    # the other forms of a page take it too
    assert "12 of 12 records" in html_report([page])
    assert {name.rpartition(".")[2] for name in files([page])} == {"md", "csv", "tex"}


def rewritten(path: Path, **changes: Any) -> Any:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return reliability_page(ReliabilityFile.load(path))


def test_the_page_stands_with_the_leaderboards_where_there_is_a_file(lines: Path, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    assert "reliability.md" not in render(read_results(tmp_path))
    store_reliability(lines, tmp_path / ReliabilityFile.FILE)
    rendered = render(read_results(tmp_path))
    write(rendered, tmp_path)
    assert "(../reliability.md)" in rendered["leaderboards/README.md"]
    assert drifted(rendered, tmp_path) == []
    (tmp_path / ReliabilityFile.FILE).write_text("{")
    damaged = read_results(tmp_path)
    assert [ReliabilityFile.FILE in message for message in damaged.refused] == [True]
    assert {"leaderboards/README.md", "reliability.md"} <= set(drifted(render(damaged), tmp_path))


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"schema": 2}, "schema"), ({"figures": []}, "figures"), ({"date": "today"}, "date"), ({"more": 1}, "more"),
     ({"figures": [{"what": "", "figure": "1", "command": "c"}]}, "figures.0.what")],
)  # fmt: skip
def test_a_damaged_file_is_refused_by_field(lines: Path, tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    path = tmp_path / "reliability.json"
    store_reliability(lines, path)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}: `{field}`"):
        rewritten(path, **changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "line 1 is not JSON"),
        ('{"what": "a", "figure": "b", "command": "c"}\n[]\n', "line 2"),
        ('{"what": "a", "figure": 3, "command": "c"}', "line 1: `figure`"),
        ('{"what": "a", "command": "c"}', "line 1: `figure`"),
    ],
)
def test_lines_that_are_no_figures_are_refused_and_nothing_is_written(tmp_path: Path, text: str, message: str) -> None:
    lines, target = tmp_path / "lines", tmp_path / "reliability.json"
    lines.write_text(text)
    with pytest.raises(UserError, match=message):
        store_reliability(lines, target)
    assert not target.exists()


def test_without_the_variable_nothing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSTAL_RELIABILITY", raising=False)
    monkeypatch.chdir(tmp_path)
    report("a", "b", "c")
    assert list(tmp_path.iterdir()) == []


def test_the_program_speaks_and_has_exit_codes(lines: Path, tmp_path: Path) -> None:
    def run(*words: Path) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "harness.studies.reliability", *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    target = tmp_path / "reliability.json"
    assert run(lines, target) == (0, "", f"Done: 2 figure(s) in {target}\n")
    assert run(lines)[0] == 2
    code, _, said = run(tmp_path / "absent", target)
    assert (code, said[:7]) == (UserError.exit_code, "error: ")
    code, _, said = run(lines, lines / "reliability.json")
    assert (code, said[:7]) == (StoreError.exit_code, "error: ")


def test_every_command_of_the_document_is_one_that_its_parser_takes() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    commands = [
        shlex.split(line, comments=True)[1:]
        for block in blocks
        for line in block.splitlines()
        if line.startswith("wstal-bench ")
    ]
    assert {words[0] for words in commands} == {"debug", "sweep", "records"}
    for words in commands:
        parser = Parser()
        importlib.import_module(f"harness.cli.{words[0]}").add(parser.add_subparsers(parser_class=Parser))
        parser.parse_args(words[: words.index(">")] if ">" in words else words)


def test_what_the_document_links_to_is_there() -> None:
    """The page of figures apart: it is rendered once they are measured."""
    links = re.findall(r"\]\(([^)#]+)\)", DOCUMENT.read_text())
    assert links
    assert [link for link in links if not (DOCUMENT.parent / link).exists()] in ([], ["../results/reliability.md"])
