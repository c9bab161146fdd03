"""How planning, states and queries grow with the number of runs.

Seconds are this process's CPU time: they are reported, as they depend on the machine, and only their growth is judged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.cli.main import main
from harness.cli.planning import planned
from harness.data.opening import open_dataset
from harness.records.reading import INDENT
from harness.records.schema import Record
from harness.records.store import Store
from harness.runs.execute import execute
from harness.runs.spec import plan_run
from tests.helpers.small_data import write_tiny
from tests.helpers.sweeps import parse
from tests.stress.report import report

pytestmark = pytest.mark.stress

SIZES = (100, 1_000, 10_000)
HEAD = 'title = "Many"\nsource = "none"\nseeds = [0]\ncolumns = []\nmAP = ["0.5"]\n'
ROW = '[[rows]]\nid = "r{0}"\nmethod = "acmnet"\ncells = []\noptions = {{ "train.weight_decay" = {1} }}\n'
COMMAND = "nox -s stress -- tests/stress/test_scale.py -k"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def real(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of a run."""
    source, overrides = open_dataset(tiny), {"train.epochs": 1, "train.temporal_length": 32}
    store = Store(tmp_path_factory.mktemp("real"))
    return execute(plan_run("acmnet", 0, source, overrides), source, store, torch.device("cpu"))[1]


def plan_file(folder: Path, rows: int) -> Path:
    path = folder / f"many-{rows}.toml"
    path.write_text(HEAD + "".join(ROW.format(row, row * 1e-9) for row in range(rows)))
    return path


def fill(store: Path, record: Record, runs: list[str]) -> None:
    """Copies of a record under the names of other runs."""
    for run in runs:
        folder = store / "runs" / run
        folder.mkdir(parents=True)
        other = record.model_copy(update={"id": run, "digest": run[-10:] + "0" * 54})
        (folder / "record.json").write_bytes(other.to_bytes(INDENT))


def seconds(do: Callable[[], object]) -> float:
    """CPU seconds of the fastest of three calls: the first may fill what later ones find."""
    taken = []
    for _ in range(3):
        begun = time.process_time()
        do()
        taken.append(time.process_time() - begun)
    return min(taken)


def exponent(taken: dict[int, float]) -> float:
    """Of the least-squares line through the logarithms: time grows as the number to this power."""
    x, y = ([math.log(value) for value in values] for values in (taken.keys(), taken.values()))
    middle = sum(x) / len(x)
    return sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)


def figure(taken: dict[int, float]) -> str:
    said = ", ".join(f"{count:,}: {value:.2g} s" for count, value in taken.items())
    return f"{said} (CPU time); grows as n^{exponent(taken):.2f}"


def test_planning_a_thousand_runs(tiny: Path, tmp_path: Path) -> None:
    taken = {}
    for rows in SIZES:
        arguments = parse(
            "sweep", plan_file(tmp_path, rows), "--dry-run", "--data", tiny, "--store", tmp_path / "store"
        )
        assert len({job.run for job in planned(arguments)[1]}) == rows
        taken[rows] = seconds(lambda arguments=arguments: planned(arguments))  # type: ignore[misc]
    report("planning a plan of n runs, its file read", figure(taken), f"{COMMAND} planning")
    assert exponent(taken) < 1.2


def test_a_sweep_over_a_thousand_finished_runs(
    tiny: Path, real: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = {}
    for rows in SIZES:
        store = tmp_path / f"store-{rows}"
        words = ("sweep", plan_file(tmp_path, rows), "--data", tiny, "--store", store)
        fill(store, real, [job.run for job in planned(parse(*words))[1]])

        def again(words: tuple[object, ...] = words) -> None:
            assert main([str(word) for word in words]) == 0

        taken[rows] = seconds(again)
        out, err = capsys.readouterr()
        assert out.count("done") == 3 * rows
        assert f"Done: {rows} runs" in err
    report("`sweep` on a finished plan of n runs", figure(taken), f"{COMMAND} finished")
    assert exponent(taken) < 1.2


def test_a_query_over_ten_thousand_records(real: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = {}
    for count in SIZES:
        store = tmp_path / f"store-{count}"
        fill(store, real, [f"tiny-acmnet-s0-{number:010x}" for number in range(count)])
        words = ["records", "query", "--store", str(store), "--where", "method=acmnet"]
        taken[count] = seconds(lambda words=words: main(words))  # type: ignore[misc]
        assert capsys.readouterr().out.count("tiny-acmnet-s0-") == 3 * count
    report("`records query` over n records", figure(taken), f"{COMMAND} query")
    assert exponent(taken) < 1.2
