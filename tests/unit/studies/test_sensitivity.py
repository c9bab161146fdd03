"""How far seeds, threads, processors and precision move a result: what is run, stored and shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.pages.formats import markdown_page
from harness.pages.sensitivity import sensitivity_page, sensitivity_rows
from harness.runs.request import RunRequest
from harness.studies import sensitivity
from harness.studies.determinism import Run
from harness.studies.sensitivity import OLDER_PROCESSOR, SensitivityFile, SensitivityRun, measure, moves
from tests.helpers.pages import record
from tests.helpers.records import as_record, make_record, unchecked
from wstal.errors import UserError


def run_of(variant: str, seed: int, average: float, **changes: Any) -> SensitivityRun:
    values: dict[str, Any] = {
        "data": "Set", "synthetic": False, "method": "acmnet", "title": "ACM-Net", "epochs": 3, "options": "",
        "tious": "0.1:0.7", "commit": None, "package": "0.3.0", "torch": "2.13.0", "cpu": "X", "date": "2026-11-30",
    }  # fmt: skip
    return SensitivityRun(**values | {"variant": variant, "seed": seed, "average": average} | changes)


def test_a_variant_is_compared_with_the_reference_of_its_seed() -> None:
    runs = [run_of("reference", 0, 20.0), run_of("reference", 1, 24.0), run_of("threads", 1, 23.0)]
    runs += [run_of("precision", 0, 21.0), run_of("precision", 2, 50.0)]
    assert moves(runs) == {"threads": [-1.0], "precision": [1.0]}


def test_a_row_has_the_distance_of_seeds_and_of_each_variant() -> None:
    runs = [run_of("reference", seed, value) for seed, value in enumerate((20.0, 23.0, 24.0))]
    runs += [run_of("threads", seed, value) for seed, value in enumerate((20.5, 22.5, 26.0))]
    (row,) = sensitivity_rows(SensitivityFile(runs=runs))
    assert row["apart"] == "2.67"  # of 3, 4 and 1
    assert row["2 threads"] == "1.00, at most 2.00"
    assert row["bfloat16"] == ""
    assert row["seeds"] == 3


def test_a_new_measurement_replaces_that_of_its_method_and_data() -> None:
    stored = SensitivityFile(runs=[run_of("reference", 0, 20.0), run_of("reference", 0, 9.0, data="Other")])
    again = stored.with_runs([run_of("reference", 5, 30.0)])
    assert [(run.data, run.seed) for run in again.runs] == [("Other", 0), ("Set", 0), ("Set", 5)]
    replaced = again.with_runs([run_of("reference", 5, 31.0)])
    assert [run.average for run in replaced.runs if run.seed == 5] == [31.0]


def test_a_variant_measured_later_joins_what_is_there_unless_the_schedule_changed() -> None:
    stored = SensitivityFile.of([run_of("threads", 0, 21.0), run_of("reference", 0, 20.0)])
    assert [run.variant for run in stored.runs] == ["reference", "threads"]
    later = [run_of("reference", 0, 20.0), run_of("precision", 0, 22.0)]
    assert [run.variant for run in stored.with_runs(later).runs] == ["reference", "threads", "precision"]
    longer = [run_of("reference", 0, 30.0, epochs=9)]
    assert [(run.variant, run.epochs) for run in stored.with_runs(longer).runs] == [("reference", 9)]


def test_what_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    request = RunRequest(method="acmnet", overrides=("train.precision=bfloat16",))
    with pytest.raises(UserError, match=r"leave train\.precision out"):
        measure(request, [0], [], print)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.raises(UserError, match="--variants threads precision"):
        measure(RunRequest(method="acmnet"), [0], ["processor"], print)


def test_synthetic_rows_say_so_and_a_page_of_them_alone_too() -> None:
    made = run_of("reference", 0, 20.0, data="Easy", synthetic=True)
    both = sensitivity_page(SensitivityFile(runs=[run_of("reference", 0, 9.0), made]))
    assert "Easy (synthetic)" in markdown_page(both)
    assert not both.synthetic
    assert sensitivity_page(SensitivityFile(runs=[made])).synthetic


def test_what_seeds_move_is_counted_over_all_pairs_of_stored_runs_on_real_data() -> None:
    records = [record("a", seed, value) for seed, value in enumerate((20.0, 21.0, 24.0))]
    records += [record("b", seed, value) for seed, value in enumerate((20.0, 21.0))]
    records += [record("c"), record("d", 0, synthetic=True), record("d", 1, 40.0, synthetic=True)]
    page = markdown_page(
        sensitivity_page(SensitivityFile(runs=[run_of("reference", 0, 9.0)]), list(map(unchecked, records)))
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    # gaps of 1, 3 and 4, and one of 1; a single seed has none
    assert [row[:2] + row[3:] for row in rows if row[0] in "ABCD"] == [
        ["A", "3", "2.7", "4.0"],
        ["B", "2", "1.0", "1.0"],
    ]
    assert "1.8 points apart (median of 2 methods" in page


def test_each_variant_changes_one_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int | None, tuple[str, ...], Mapping[str, str], int]] = []

    def run_once(request: RunRequest, environment: Mapping[str, str]) -> Run:
        asked.append((request.threads, request.overrides, environment, request.seed))
        return Run(Path(), as_record(make_record(seed=request.seed)), 1, frozenset())

    monkeypatch.setattr(sensitivity, "run_once", run_once)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    request = RunRequest(method="acmnet", overrides=("train.epochs=2",))
    found = measure(request, [4, 7], ["threads", "processor", "precision"], lambda line: None)
    own, half = ("train.epochs=2",), ("train.epochs=2", "train.precision=bfloat16")
    assert asked[::2] == [(1, own, {}, 4), (2, own, {}, 4), (1, own, OLDER_PROCESSOR, 4), (1, half, {}, 4)]
    assert [run.seed for run in found] == [4, 7] * 4
    assert {run.options for run in found} == {"train.epochs=2"}


def test_the_command_stores_and_shows_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["debug", "sensitivity", "whole-video", "--seeds", "0", "--variants", "threads", "--out", str(tmp_path)]
    assert main([*words, "--set", "train.epochs=1"]) == 0
    stored = json.loads((tmp_path / "sensitivity.json").read_bytes())
    assert [(run["variant"], run["epochs"]) for run in stored["runs"]] == [("reference", 1), ("threads", 1)]
    assert "Whole video" in (tmp_path / "sensitivity.md").read_text()
    out = capsys.readouterr()
    assert "2 threads" in out.out
    assert "threads, seed 0 (2 of 2)" in out.err


def test_a_damaged_file_is_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sensitivity.json").write_text('{"schema": 2, "runs": []}')
    assert main(["debug", "sensitivity", "acmnet", "--out", str(tmp_path)]) == UserError.exit_code
    assert "debug sensitivity" in capsys.readouterr().err
