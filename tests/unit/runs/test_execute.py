"""A run as a whole: killed, on data that change under it, with a clock that jumps, or without memory."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from baselines.acmnet import AcmNet
from harness.cli.main import main
from harness.io.encoding import sha256_file
from harness.records.files import HISTORY, PSEUDO_LABELS, RECORD
from tests.helpers.faults import Killed, finished
from tests.helpers.runs import EPOCHS, at, check_killed_run, die, run
from tests.helpers.small_data import write_tiny
from wstal.errors import RunError, UserError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=4, test=2)


@pytest.fixture
def changing(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data", train=4, test=2)


@pytest.mark.parametrize("name", ["rmgcl-gksa", "rskp", "tscn"])
def test_a_killed_run_leaves_the_undisturbed_files(name: str, tiny: Path, tmp_path: Path) -> None:
    check_killed_run(name, tiny, tmp_path)


def test_features_of_one_stream_are_refused_by_a_method_of_two_or_split_and_the_record_says_so(
    tiny: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"method.split": "no"}
    with pytest.raises(UserError, match=r"TSCN \(from the paper\) trains two streams .*method\.split=halves"):
        run(tiny, tmp_path, "tscn", **options)
    assert list(tmp_path.glob("runs/*")) == []
    folder = run(tiny, tmp_path, "tscn")  # the data set's schedule asks for halves
    record = json.loads((folder / RECORD).read_text())
    assert record["title"] == "TSCN (from the paper), halves of one stream"
    assert record["recipe"]["method"]["split"] == "halves"


def alter(path: Path) -> Callable[[], None]:
    """Change a feature file in place, keeping its size and setting its modification time back; returns the undoing."""
    before, status = path.read_bytes(), path.stat()

    def write(content: bytes) -> None:
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    write(before[:-2] + np.float16(9).tobytes())
    assert path.stat().st_size == status.st_size
    return lambda: write(before)


@pytest.mark.parametrize(("stage", "step"), [("train", 5), ("train", EPOCHS), ("score", 2)])
@pytest.mark.parametrize("subset", ["train", "test"])
def test_features_that_change_on_the_way_are_never_mixed(
    stage: str, step: int, subset: str, changing: Path, tmp_path: Path
) -> None:
    run(changing, tmp_path / "undisturbed")
    store = tmp_path / "store"
    restore: list[Callable[[], None]] = []
    file = changing / "features" / subset / "rgb" / f"{subset}_001.npy"
    with pytest.raises(RunError, match=rf"The data changed while tiny-acmnet-s0-\w+ was computed \({subset}\)"):
        run(changing, store, on_progress=at(stage, step, lambda: restore.append(alter(file))))
    assert finished(store) == {}
    # with the changed files it is another run, that of a store which has never seen the old ones
    other = run(changing, store)
    assert finished(store) == {
        name: content
        for name, content in finished(run(changing, tmp_path / "fresh").parents[1]).items()
        if other.name in name
    }
    # with the old ones it goes on to the old bits
    restore[0]()
    seen: list[int] = []
    same = run(changing, store, on_progress=lambda now, done, *_: seen.append(done) if now == "train" else None)
    if stage == "train":
        assert seen[0] == step  # what was trained before the change is kept
    assert same.name != other.name
    assert {name for name in finished(store) if same.name in name} == finished(tmp_path / "undisturbed").keys()
    assert finished(tmp_path / "undisturbed").items() <= finished(store).items()


def test_files_that_are_only_touched_are_the_same_data(changing: Path, tmp_path: Path) -> None:
    run(changing, tmp_path / "a")
    file = changing / "features" / "train" / "rgb" / "train_001.npy"
    run(changing, tmp_path / "b", on_progress=at("train", 5, file.touch))
    assert finished(tmp_path / "b") == finished(tmp_path / "a")


def test_a_file_that_goes_away_is_a_message(changing: Path, tmp_path: Path) -> None:
    for subset in ("train", "test"):
        file = changing / "features" / subset / "rgb" / f"{subset}_001.npy"
        kept = file.read_bytes()
        with pytest.raises(UserError, match=file.name):
            run(changing, tmp_path / "a", on_progress=at("score", 2, file.unlink))
        assert finished(tmp_path / "a") == {}
        file.write_bytes(kept)


@pytest.mark.parametrize("jumps", [[2e9, 1e9, 5e8, 0.0], [1e11, 2e11], [-1e9, 1e10]])
def test_nothing_but_the_manifest_depends_on_the_clock(
    jumps: list[float], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny, tmp_path / "a")
    asked: list[Any] = []

    def now() -> float:
        asked.append(jumps[len(asked) % len(jumps)])
        return asked[-1]

    monkeypatch.setattr(time, "time", now)
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * now()))
    with pytest.raises(Killed):
        run(tiny, tmp_path / "b", on_progress=at("train", 5, die))
    folder = run(tiny, tmp_path / "b")
    monkeypatch.undo()
    assert asked
    assert finished(tmp_path / "b") == finished(tmp_path / "a")
    assert json.loads((folder / "manifest.json").read_text())["seconds"]["train"] >= 0


LACKS: dict[str, Callable[..., Any]] = {
    "torch": lambda *_: torch.empty(10**14),
    "numpy": lambda *_: np.empty(10**14),
    "python": lambda *_: bytearray(10**17),
}


def raises(error: Exception) -> Callable[..., Any]:
    def call(*_: Any) -> None:
        raise error

    return call


LACKS["cuda"] = raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total"))
LACKS["cublas"] = raises(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


@pytest.mark.parametrize("lack", LACKS)
@pytest.mark.parametrize(
    ("step", "assignment", "message"),
    [
        ("losses", "train.batch_size=6", r"in training of acmnet. Try --set train.batch_size=3 \(now 6\)"),
        ("losses", "train.batch_size=1", r"in training of acmnet. Try --set train.temporal_length=8 \(now 16\)"),
        ("score", "train.test_length=30", r"in scoring of acmnet. Try --set train.test_length=15 \(now 30\)"),
        ("score", "train.test_length=9000", r"in scoring of acmnet. Try --set train.test_length=2\d \(now [45]\d\)"),
    ],
)
def test_too_little_memory_names_the_value_to_try(
    lack: str, step: str, assignment: str, message: str, tiny: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(AcmNet, step, LACKS[lack])
    code = main(
        ["run", "--method", "acmnet", "--data", str(tiny), "--store", str(tmp_path), "--threads", "1", "--set",
         "train.temporal_length=16", assignment]
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert (code, out) == (4, "")
    assert err.count("error: ") == 1
    assert re.match(rf"error: Out of memory {message}.*the same command goes on later", err.splitlines()[-1])
    assert finished(tmp_path) == {}


def test_an_error_of_a_method_stays_one(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a lack of memory, and what is not finite, is the user's to mend."""
    monkeypatch.setattr(AcmNet, "losses", raises(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="shapes"):
        run(tiny, tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_found_before_anything_is_written(
    value: float, changing: Path, tmp_path: Path
) -> None:
    file = changing / "features" / "train" / "rgb" / "train_002.npy"
    features = np.load(file)
    features[7, 3] = value
    np.save(file, features)
    with pytest.raises(UserError, match=r"Features of train_002: row 7 of \d+ has NaN or infinity"):
        run(changing, tmp_path / "store")
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["cache"]


def test_a_damaged_history_is_not_taken_over(tiny: Path, tmp_path: Path) -> None:
    """A run that differs in scoring alone takes over weights and history, each as its record says it is."""
    first = run(tiny, tmp_path)
    options: dict[str, Any] = {"localizer.nms.threshold": 0.33}
    trained: list[str] = []

    def seen(stage: str, *_: Any) -> None:
        trained.append(stage)

    run(tiny, tmp_path, on_progress=seen, **options)
    assert "train" not in trained
    history = json.loads((first / HISTORY).read_text())
    history["steps"]["total"][0] += 1
    (first / HISTORY).write_text(json.dumps(history))
    options = {"localizer.nms.threshold": 0.34}
    second = next(path for path in (tmp_path / "runs").iterdir() if path != first)
    (second / HISTORY).unlink()
    folder = run(tiny, tmp_path, on_progress=seen, **options)
    assert "train" in trained
    assert json.loads((folder / RECORD).read_text())["training"]["weights_of"] is None


def test_reused_weights_come_with_the_pseudo_labels_of_their_training(tiny: Path, tmp_path: Path) -> None:
    """Those of a method may come from what its weights leave out: a memory bank, teachers."""
    options: dict[str, Any] = {"method.gks": False, "train.epochs": 4}
    first = run(tiny, tmp_path, "rmgcl-gksa", **options)
    second = run(tiny, tmp_path, "rmgcl-gksa", **(options | {"localizer.nms.threshold": 0.33}))
    assert json.loads((second / RECORD).read_text())["training"]["weights_of"] == first.name
    assert sha256_file(second / PSEUDO_LABELS) == sha256_file(first / PSEUDO_LABELS)
    assert any(name.endswith("/auxiliary") for name in load_file(second / PSEUDO_LABELS))
    # of other rows of the videos there is what the weights give
    third = run(tiny, tmp_path, "rmgcl-gksa", **(options | {"train.test_length": 5}))
    assert {name.split("/")[1] for name in load_file(third / PSEUDO_LABELS)} == {"main"}


def test_tf32_is_refused_where_it_would_only_be_a_name(tiny: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"train.precision": "tf32"}
    with pytest.raises(UserError, match="tf32 is a GPU's"):
        run(tiny, tmp_path, **options)
    assert finished(tmp_path) == {}
