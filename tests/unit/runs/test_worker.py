"""Workers: one run a process, with the exit codes of the command line."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli.main import main as command
from harness.io import console
from harness.io.exits import exit_code
from harness.records.store import Store
from harness.runs.request import DataRequest, RunRequest
from harness.runs.worker import main
from tests.helpers.faults import finished
from tests.helpers.small_data import write_tiny
from wstal.errors import MissingDataError, StoreError

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = ("train.epochs=2", "train.temporal_length=16", "train.batch_size=2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=4, test=2)


def requested(tiny: Path, folder: Path, **changes: object) -> RunRequest:
    request = RunRequest(
        method="acmnet", data=DataRequest(data=tiny), store=folder, device="cpu", threads=1, overrides=SHORT
    )
    return request.model_copy(update=changes)


def test_a_worker_leaves_what_the_command_leaves(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = requested(tiny, tmp_path / "worker")
    planned = request.plan(request.data.open(request.store)).id
    assert main(request.model_copy(update={"expected": planned})) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{planned} train 2/2 loss " in err
    assert err.endswith(f"Done: {tmp_path / 'worker' / 'runs' / planned}\n")
    assert command(["run", *requested(tiny, tmp_path / "command").to_argv()]) == 0
    assert len(finished(tmp_path / "worker")) == 8
    assert finished(tmp_path / "worker") == finished(tmp_path / "command")


def test_a_long_run_tells_after_its_first_epoch_how_long_it_takes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes = itertools.count(step=60)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(minutes)))
    assert main(requested(tiny, tmp_path)) == 0
    told = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines() if " loss " in line]
    assert [line.partition(" loss ")[0] for line in told] == ["train 1/2", "train 2/2"]
    assert told[0].endswith(", about 60 s left")
    assert "left" not in told[1]


def test_a_run_tells_how_far_it_has_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes = itertools.count(step=60)
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(minutes)))
    assert main(requested(tiny, tmp_path)) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("data ")]
    stages = dict.fromkeys(line.split()[1] for line in told)
    assert list(stages) == ["digest", "headers", "read", "check"]
    assert told[0] == "data digest 1/6 files, about 5 min left"


def test_another_run_than_the_planned_one_is_refused_before_it_begins(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(requested(tiny, tmp_path, expected="tiny-acmnet-s0-0123456789")) == 4
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: The run is tiny-acmnet-s0-")
    assert "not tiny-acmnet-s0-0123456789: data or plan changed. Start the sweep again." in error
    assert Store(tmp_path).finished() == []
    assert not (tmp_path / "partial").exists()


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"method": "acmnett"}, 2, "did you mean 'acmnet'"),
        ({"data": DataRequest(data=Path("absent"))}, 3, "absent is not a folder"),
        ({"data": DataRequest(data=Path("absent"), full_size=True)}, 2, "--full-size"),
        ({"device": "tpu"}, 2, "Unknown device"),
        ({"store": Path("/dev/null/store")}, 4, "/dev/null"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    tiny: Path, tmp_path: Path, changes: dict[str, object], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(requested(tiny, tmp_path, **changes)) == code
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message in error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MissingDataError("no file"), 3, "error: no file\n"),
        (StoreError("x" * 9000), 4, " ... "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 4, "error: out of memory."),
        (MemoryError(), 4, "error: out of memory."),
        (KeyboardInterrupt(), 130, "interrupted; finished epochs are kept"),
    ],
)
def test_every_end_has_its_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert exit_code(work) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err) < 3100


def test_an_error_of_the_program_stays_one() -> None:
    def work() -> int:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        exit_code(work)
