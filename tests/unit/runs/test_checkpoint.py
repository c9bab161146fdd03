"""Checkpoints: every method goes on to the same bits; damage falls back to the one before, and so does a kill."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from torch import Tensor

from baselines.rskp import EMPTY, Rskp
from harness.io.console import OnProgress
from harness.random_streams import seed_torch
from harness.registry import load_method, method_entries
from harness.runs.checkpoint import History, remove_checkpoints
from harness.runs.training import train
from harness.testing import own_options
from tests.helpers.faults import CHANGES, Faults, Killed
from tests.helpers.training import RUN, SPEC, fresh, same, videos, videos_for
from wstal.cross_video import CrossVideo
from wstal.errors import StoreError
from wstal.method import Method, TrainSpec

EPOCHS, STOP = 8, 7  # RSKP's memory is filled before the sixth epoch, the others' before
# so that all of a method's phases are within these epochs
PHASES: dict[str, dict[str, Any]] = {
    "em-mil": {"phase_epochs": 2, "video_epochs": 5},
    "ftcl": {"pair_start": 0.5},
}


def started(name: str, seed: int) -> tuple[Method, TrainSpec]:
    """A registered method with its own options, and its own schedule cut down."""
    recipe = load_method(name).recipe("thumos14")
    seed_torch(seed, "initialisation")
    sizes = {"epochs": EPOCHS, "temporal_length": 12, "test_length": 12}
    few = {"batch_size": min(recipe.train.batch_size, 4), "accumulate": min(recipe.train.accumulate, 3)}
    options = own_options(load_method(name)).model_copy(update=PHASES.get(name, {}))
    return load_method(name)(options, 16, 3), recipe.train.model_copy(update=sizes | few)


def has_memory(method: Method) -> bool:
    """Whether what a method remembers across videos, if it does, holds anything."""
    if isinstance(method, Rskp):
        return bool((method.slot_scores > EMPTY).any())
    return not isinstance(method, CrossVideo) or method.memory is None or bool(method.memory.filled.any())


def stop_after(epoch: int) -> OnProgress:
    """Die once that epoch's steps are done, before its checkpoint."""

    def on_progress(stage: str, done: int, total: int, note: str) -> None:
        if done == epoch:
            raise Killed

    return on_progress


@pytest.mark.parametrize("name", list(method_entries()))
def test_every_method_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    undisturbed, spec = started(name, 0)
    expected = train(undisturbed, videos_for(undisturbed), spec, 0, tmp_path / "a", RUN)
    killed, _ = started(name, 0)
    with pytest.raises(Killed):
        train(
            killed, videos_for(killed), spec, 0, tmp_path / "b", RUN, on_progress=stop_after(STOP), checkpoint_seconds=0
        )
    assert has_memory(killed)
    resumed, _ = started(name, 99)
    seen: list[int] = []
    history = train(
        resumed,
        videos_for(resumed),
        spec,
        0,
        tmp_path / "b",
        RUN,
        on_progress=lambda stage, done, *_: seen.append(done),
    )
    assert seen == [STOP, STOP + 1]
    assert same(resumed, undisturbed)
    assert history == expected


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Method, History]:
    method = fresh()
    return method, train(method, videos(), SPEC, 0, tmp_path_factory.mktemp("undisturbed"), RUN)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A training of 6 epochs that ended after 4."""
    with pytest.raises(Killed):
        train(fresh(), videos(), SPEC, 0, tmp_path, RUN, on_progress=stop_after(5), checkpoint_seconds=0)
    assert names(tmp_path) == ["000003.json", "000003.safetensors", "000004.json", "000004.safetensors"]
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.name.removeprefix("checkpoint-") for path in folder.iterdir())


def go_on(folder: Path, spec: TrainSpec = SPEC, **options: Any) -> tuple[Method, History, list[int], list[str]]:
    """Train on; with other first weights, where there is a checkpoint that shall replace them."""
    method = fresh(99 if list(folder.glob("checkpoint-*.json")) else 0)
    seen, said = list[int](), list[str]()
    with mock.patch("harness.runs.checkpoint.say", said.append):
        history = train(
            method, videos(), spec, 0, folder, RUN, on_progress=lambda stage, done, *_: seen.append(done), **options
        )
    return method, history, seen, said


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def another_loss(path: Path) -> None:
    """One digit of the history, in a file that stays JSON."""
    about = json.loads(path.read_text())
    about["history"]["steps"]["total"][0] += 1
    path.write_text(json.dumps(about))


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "flipped tensors": ("safetensors", flip, "the SHA-256 of its tensors differs"),
    "cut tensors": ("safetensors", cut, "the SHA-256 of its tensors differs"),
    "no tensors": ("safetensors", Path.unlink, "No such file or directory"),
    "cut JSON": ("json", cut, "checkpoint-000004.json cannot be read"),
    "other JSON": ("json", lambda path: path.write_text("[]"), "checkpoint-000004.json is not as it was written"),
    "NaN": ("json", lambda path: path.write_text('{"digest": "", "a": NaN}'), "NaN|not JSON compliant"),
    "changed history": ("json", another_loss, "checkpoint-000004.json is not as it was written"),
    "no JSON": ("json", Path.unlink, "checkpoint-000004.json is not there"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_passed_over_aloud(
    damage: str, stopped: Path, undisturbed: tuple[Method, History], capsys: pytest.CaptureFixture[str]
) -> None:
    kind, spoil, why = DAMAGE[damage]
    spoil(stopped / f"checkpoint-000004.{kind}")
    method, history, seen, said = go_on(stopped, checkpoint_seconds=1e9)
    assert seen == [4, 5, 6]
    assert same(method, undisturbed[0])
    assert history == undisturbed[1]
    (line,) = said
    assert "training goes on after epoch 3" in line
    assert any(words in line for words in why.split("|")), line
    # what is kept beside the last one is the one that was whole
    assert names(stopped) == ["000003.json", "000003.safetensors", "000006.json", "000006.safetensors"]


def test_it_is_said_on_stderr(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(stopped / "checkpoint-000004.safetensors")
    train(fresh(), videos(), SPEC, 0, stopped, RUN)
    out, err = capsys.readouterr()
    assert out == ""
    assert "checkpoint-000004" in err


def test_two_damaged_ones_are_refused_and_left(stopped: Path) -> None:
    flip(stopped / "checkpoint-000004.safetensors")
    cut(stopped / "checkpoint-000003.json")
    before = names(stopped)
    with pytest.raises(StoreError, match=rf"damaged .*000004.*000003.*remove {stopped} to train from the start"):
        go_on(stopped)
    assert names(stopped) == before


def test_tensors_without_any_json_are_what_a_kill_leaves(stopped: Path, undisturbed: tuple[Method, History]) -> None:
    for path in stopped.glob("*.json"):
        path.unlink()
    method, history, seen, said = go_on(stopped)
    assert seen[0] == 1
    assert same(method, undisturbed[0])
    assert history == undisturbed[1]
    assert "goes on after epoch 0" in said[0]


def test_one_of_another_run_or_machine_is_refused(stopped: Path) -> None:
    for other, message in (
        ({"run": "y"}, r"run 'x' \(now 'y'\): other bits would come out"),
        (RUN | {"threads": 2}, r"threads None \(now 2\)"),
    ):
        with pytest.raises(StoreError, match=message) as caught:
            train(fresh(), videos(), SPEC, 0, stopped, other)
        assert f"Or remove {stopped}" in str(caught.value)
    assert len(names(stopped)) == 4


def test_one_of_another_network_is_refused(stopped: Path) -> None:
    with pytest.raises(StoreError, match="does not fit rmgcl-gksa"):
        train(fresh(kind="codewords"), videos(), SPEC, 0, stopped, RUN)


def test_no_kill_between_two_calls_leaves_a_bad_state(tmp_path: Path) -> None:
    """Every call that changes a file, of a training that writes three checkpoints and removes one."""
    spec = SPEC.model_copy(update={"epochs": 3})
    undisturbed = fresh()
    expected = train(undisturbed, videos(), spec, 0, tmp_path / "undisturbed", RUN)
    for number in range(1000):
        folder, faults = tmp_path / str(number), Faults(number, Killed, CHANGES)
        with faults.active(), contextlib.suppress(Killed):
            train(fresh(), videos(), spec, 0, folder, RUN, checkpoint_seconds=0)
        method, history, _, _ = go_on(folder, spec, checkpoint_seconds=0)
        assert same(method, undisturbed), number
        assert history == expected, number
        if not faults.hit:
            break
    assert number > 3 * 2 * len(["open", "write", "fsync", "chmod", "replace"])


def test_no_kill_while_they_are_removed_leaves_json_without_tensors(stopped: Path, tmp_path: Path) -> None:
    for number in range(5):
        faults = Faults(number, Killed, CHANGES)
        with faults.active(), contextlib.suppress(Killed):
            remove_checkpoints(stopped)
        left = names(stopped)
        assert {name for name in left if name.endswith("json")} <= {
            name.replace("safetensors", "json") for name in left if name.endswith("safetensors")
        }
    assert names(stopped) == []


def test_checkpoints_that_cannot_be_removed_are_a_message(stopped: Path) -> None:
    def refuse(path: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system", str(path))

    with mock.patch.object(os, "unlink", refuse), pytest.raises(StoreError, match=r"Cannot remove .*Read-only"):
        remove_checkpoints(stopped)


def test_data_are_checked_before_every_checkpoint(tmp_path: Path) -> None:
    """What was trained on other data is not kept."""
    seen: list[int] = []

    def check() -> None:
        if seen[-1] == 3:
            raise Killed

    with pytest.raises(Killed):
        train(
            fresh(), videos(), SPEC, 0, tmp_path, RUN,
            on_progress=lambda stage, done, *_: seen.append(done), checkpoint_seconds=0, check=check,
        )  # fmt: skip
    assert names(tmp_path)[-1] == "000002.safetensors"


def test_the_state_of_the_optimiser_is_part_of_it(stopped: Path, undisturbed: tuple[Method, History]) -> None:
    """The comparison above notices a moment that was not restored."""

    def forget(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors | {name: value * 0 for name, value in tensors.items() if name.endswith("exp_avg")}

    from safetensors.torch import load

    with mock.patch("safetensors.torch.load", lambda data: forget(load(data))):
        method, _, _, _ = go_on(stopped)
    assert not same(method, undisturbed[0])


@pytest.mark.parametrize(("seconds", "kept"), [(0.3, [1, 2, 3, 4, 5, 6]), (3.0, [1, 6])])
def test_slow_checkpoints_take_two_percent_of_the_time(
    seconds: float, kept: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of 31 seconds: those after a checkpoint of 3 seconds wait for 150 seconds of training."""
    now, written = [0.0], list[int]()

    def save(folder: Path, *given: Any) -> None:
        now[0] += seconds
        written.append(next(one for one in given if isinstance(one, int)))

    def epoch_done(*_: object) -> None:
        now[0] += 31

    monkeypatch.setattr("harness.runs.training.save_checkpoint", save)
    monkeypatch.setattr("harness.runs.training.time.monotonic", lambda: now[0])
    train(fresh(), videos(), SPEC, 0, tmp_path, RUN, on_progress=epoch_done)
    assert written == kept
