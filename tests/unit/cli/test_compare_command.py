"""`compare` as a person calls it: a line a row on the terminal, every cell in JSON, wrong names refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main

ROOT = Path(__file__).parents[3]


def test_terminal_has_a_line_for_each_row_and_json_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["paper", "compare", "--table", "table_I", "--results", str(ROOT / "results")]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "AutoLoc" in shown.out
    assert "reproduced" in shown.out
    assert shown.err.splitlines()[-1].startswith("Done: 1 tables")
    assert main([*command, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    autoloc = {cell["column"]: cell for cell in cells if cell["id"] == "autoloc"}
    assert autoloc["0.5"]["published"] == "21.2"
    assert autoloc["0.5"]["measured"]["mean"] == pytest.approx(21.2054, abs=1e-4)
    assert autoloc["0.5"]["verdict"] == "reproduced"
    assert {cell["verdict"] for cell in cells if cell["id"] == "ssn"} == {"not comparable"}  # other features


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paper", "compare", "--table", "X"], "Unknown table 'X'"),
        (["paper", "compare", "--table", "IX"], "wstal-bench paper cost"),
        (["compare", "nowhere", "nothing"], "holds no finished run"),
    ],
)
def test_wrong_names_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_empty_results_folder_says_not_run_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paper", "compare", "--results", str(tmp_path), "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert {cell["verdict"] for cell in cells} == {"not run"}
    assert {cell["table"] for cell in cells} == {"I", "II", "III", "IV", "V", "VI", "VII", "VIII"}
