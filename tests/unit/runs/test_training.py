"""Training: it learns, it resumes to the same bits, it refuses what cannot be trained."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from baselines.acmnet import AcmNet, AcmNetOptions
from harness.cli.main import main
from harness.random_streams import seed_torch
from harness.registry import load_method, method_entries
from harness.runs.checkpoint import load_weights, save_weights
from harness.runs.failed_step import FAILED_STEP, cause, replay
from harness.runs.training import _check_weights, train
from harness.testing import own_options
from tests.helpers.training import RUN, SPEC, fresh, same, videos, videos_for
from wstal.errors import MissingDataError, RunError, StoreError, UserError
from wstal.types import SupervisedVideo


def test_loss_falls_and_every_term_has_one_value_a_step(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"epochs": 60, "learning_rate": 3e-3, "decay_every": None})
    seed_torch(0, "initialisation")
    model = AcmNet(AcmNetOptions(dropout=0.0), 16, 3)
    history = train(model, videos(), spec, 0, tmp_path, RUN)
    assert history.steps_per_epoch == 3
    assert {len(values) for values in history.steps.values()} == {3 * spec.epochs}
    for term in ("total", "instance"):
        assert history.last_epoch_means()[term] < np.mean(history.steps[term][:3])  # type: ignore[arg-type, operator]


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", ["acmnet", "codewords", "k_means", "detr_layer"])
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resuming_after_a_kill_gives_the_same_bits(tmp_path: Path, stop: int, kind: str) -> None:
    undisturbed = fresh(kind=kind)
    expected = train(undisturbed, videos(), SPEC, 0, tmp_path / "a", RUN)

    def kill(stage: str, done: int, total: int, note: str) -> None:
        if done == stop + 1:
            raise Killed

    with pytest.raises(Killed):
        train(fresh(kind=kind), videos(), SPEC, 0, tmp_path / "b", RUN, on_progress=kill, checkpoint_seconds=0)
    resumed, seen = fresh(99, kind), []
    history = train(
        resumed, videos(), SPEC, 0, tmp_path / "b", RUN,
        on_progress=lambda stage, done, *_: seen.append(done), checkpoint_seconds=0,
    )  # fmt: skip
    assert seen[0] == stop + 1
    assert same(resumed, undisturbed)
    assert history == expected


def test_a_process_killed_outright_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    undisturbed, resumed = fresh(), fresh(seed=99)
    expected = train(undisturbed, videos(), SPEC, 0, tmp_path / "a", RUN)
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from harness.runs.training import _check_weights, train\n"
        "from tests.helpers.training import RUN, SPEC, fresh, videos\n"
        "kill = lambda stage, done, total, note: done == 4 and os.kill(os.getpid(), 9)\n"
        "train(fresh(), videos(), SPEC, 0, Path(sys.argv[1]), RUN, on_progress=kill, checkpoint_seconds=0)\n"
    )
    root = Path(__file__).parents[3]
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "b")], cwd=root, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    seen: list[int] = []
    history = train(
        resumed, videos(), SPEC, 0, tmp_path / "b", RUN, on_progress=lambda stage, done, *_: seen.append(done)
    )
    assert seen == [4, 5, 6]
    assert same(resumed, undisturbed)
    assert history == expected


def test_seed_decides_the_result(tmp_path: Path) -> None:
    models = [fresh() for _ in range(3)]
    for number, (model, seed) in enumerate(zip(models, (0, 0, 1), strict=True)):
        train(model, videos(), SPEC, seed, tmp_path / str(number), RUN)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_learning_rate_decays_when_the_schedule_says(tmp_path: Path) -> None:
    decayed, constant = fresh(), fresh()
    train(decayed, videos(), SPEC.model_copy(update={"decay_every": 1, "decay_factor": 1e-9}), 0, tmp_path / "a", RUN)
    train(constant, videos(), SPEC.model_copy(update={"epochs": 1, "decay_every": None}), 0, tmp_path / "b", RUN)
    for a, b in zip(decayed.parameters(), constant.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_no_videos_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training videos"):
        train(fresh(), [], SPEC, 0, tmp_path, RUN)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", list(method_entries()))
def test_every_method_stops_and_names_the_video_that_is_not_finite(name: str, value: float, tmp_path: Path) -> None:
    recipe = load_method(name).recipe("thumos14")
    method = load_method(name)(own_options(load_method(name)), 16, 3)
    bad = videos_for(method)
    for video in (one.video if isinstance(one, SupervisedVideo) else one for one in bad):
        if video.name == "v3":
            video.features[:, 5] = value
    # enough epochs that every video is drawn, and that no later stage of a method begins with the first
    spec = SPEC.model_copy(update={"batch_size": min(recipe.train.batch_size, 4), "epochs": 20})
    with pytest.raises(RunError, match=rf"{name} is not finite in epoch \d+, step \d+ .*features of v3 are not finite"):
        train(method, bad, spec, 0, tmp_path, RUN)
    again, batch, terms = replay(tmp_path / FAILED_STEP)
    assert "v3" in cause(again, batch)
    assert not terms["total"].isfinite()


@pytest.mark.parametrize("name", list(method_entries()))
def test_every_method_trains_in_bfloat16_with_weights_in_float32(name: str, tmp_path: Path) -> None:
    recipe = load_method(name).recipe("thumos14")
    spec = SPEC.model_copy(update={"batch_size": min(recipe.train.batch_size, 4)})
    first, trained = {}, {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        method = load_method(name)(own_options(load_method(name)), 16, 3)
        history = train(
            method, videos_for(method), spec.model_copy(update={"precision": precision}), 0, tmp_path / precision, RUN
        )
        first[precision] = history.steps["total"][0]
        trained[precision] = method
    assert {weight.dtype for weight in trained["bfloat16"].parameters()} == {torch.float32}
    # three significant digits of products; ASL's first loss takes a power of small probabilities
    assert first["bfloat16"] == pytest.approx(first["float32"], rel=0.1)
    if name not in ("random", "whole-video"):  # those learn one number without a product
        assert not same(trained["float32"], trained["bfloat16"])


def test_a_failed_step_is_replayed_in_its_precision(tmp_path: Path) -> None:
    bad = videos()
    bad[3].features[:, 5] = np.nan
    with pytest.raises(RunError, match="features of v3 are not finite"):
        train(fresh(), bad, SPEC.model_copy(update={"precision": "bfloat16"}), 0, tmp_path, RUN)
    file = tmp_path / FAILED_STEP
    with safetensors.safe_open(file, "pt") as kept:
        assert kept.metadata()["precision"] == "bfloat16"
    assert not replay(file)[2]["total"].isfinite()


@pytest.mark.parametrize("name", ["basnet", "cola"])
def test_what_torch_refuses_of_an_overflow_is_a_step_that_is_not_finite(name: str, tmp_path: Path) -> None:
    """Its binary cross-entropy raises on NaN in place of giving it."""
    method = load_method(name)(load_method(name).recipe("thumos14").method, 16, 3)
    spec = SPEC.model_copy(update={"learning_rate": 1e20})
    with pytest.raises(RunError, match=r"is not finite in epoch 1, step 2 .*the loss itself overflowed.*lower train"):
        train(method, videos(), spec, 0, tmp_path, RUN)


def test_a_step_that_cannot_be_kept_is_still_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StoreError(f"Cannot write {path}: No space left on device.")

    monkeypatch.setattr("harness.runs.failed_step.atomic_write", full)
    bad = videos()
    bad[3].features[:] = np.inf
    with pytest.raises(RunError, match=r"step 2 .*features of v3.*The step could not be kept: .*No space left"):
        train(fresh(), bad, SPEC, 0, tmp_path, RUN)


@pytest.mark.parametrize("kind", ["acmnet", "codewords", "k_means"])
def test_a_failed_step_can_be_done_again(tmp_path: Path, kind: str) -> None:
    """A weight is spoilt in the fourth epoch, when there is a bank; the step is kept with the state before it."""
    method, terms = fresh(kind=kind), {}

    def spoil(stage: str, done: int, total: int, note: str) -> None:
        if done == 4:
            with torch.no_grad():
                next(method.parameters())[:] = 1e38

    losses = method.losses
    method.losses = lambda batch: terms.update(losses(batch)) or dict(terms)  # type: ignore[method-assign]
    with pytest.raises(
        RunError, match=r"epoch 5, step 1 .*all features and weights are finite.*wstal-bench debug replay"
    ):
        train(method, videos(), SPEC, 0, tmp_path, RUN, on_progress=spoil)
    again, batch, replayed = replay(tmp_path / FAILED_STEP)
    assert same(again, method)
    assert replayed.keys() == terms.keys()
    for name, value in terms.items():
        torch.testing.assert_close(replayed[name], value.detach(), rtol=0, atol=0, equal_nan=True, check_dtype=False)
    largest = float(batch.features.abs().max())
    assert "loss itself overflowed" in (said := cause(again, batch))
    assert f"({largest:.3g}, in v" in said
    batch.features[1, 2, 3] = -4.5e18
    assert f"(4.5e+18, in {batch.videos[1]})" in cause(again, batch)
    # the file goes once training begins again
    train(fresh(kind=kind), videos(), SPEC, 0, tmp_path, RUN)
    assert not (tmp_path / FAILED_STEP).exists()


def test_weights_spoilt_by_the_last_step_are_not_kept(tmp_path: Path) -> None:
    method = fresh()

    def spoil() -> None:
        with torch.no_grad():
            next(method.parameters())[0] = np.inf

    method.end_step = spoil  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"not finite after epoch 1 \(embedding.weight\)"):
        train(method, videos(count=4), SPEC.model_copy(update={"epochs": 1}), 0, tmp_path, RUN)
    assert not list(tmp_path.glob("checkpoint*"))


def test_a_curve_may_have_gaps(tmp_path: Path) -> None:
    method = fresh()
    losses = method.losses
    method.losses = lambda batch: losses(batch) | {"aside": torch.tensor(np.nan)}  # type: ignore[method-assign]
    method.diagnostics = lambda: {"one": np.inf, "some": [1.0, np.nan]}  # type: ignore[method-assign]
    history = train(method, videos(), SPEC, 0, tmp_path, RUN, checkpoint_seconds=0)
    assert set(history.steps["aside"]) == {None}
    assert history.last_epoch_means()["aside"] is None
    assert history.epochs == {"one": [None] * 6, "some": [[1.0, None]] * 6}


def test_a_failed_step_with_bad_weights_says_which(tmp_path: Path) -> None:
    method = fresh()

    def spoil() -> None:
        with torch.no_grad():
            next(method.parameters())[0] = np.nan

    method.end_step = spoil  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"step 2 .*weights are not finite since an earlier step \(embedding.weight\)"):
        train(method, videos(), SPEC, 0, tmp_path, RUN)


def test_what_is_no_failed_step_is_refused(tmp_path: Path) -> None:
    bad = videos()
    bad[0].features[:] = np.nan
    with pytest.raises(RunError, match=FAILED_STEP):
        train(fresh(), bad, SPEC, 0, tmp_path, RUN)
    with safetensors.safe_open(tmp_path / FAILED_STEP, "pt") as file:
        facts, whole = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, changes in {
        "no-draws": {"draws": None}, "short-draws": {"draws": whole["draws"][:9]},
        "flat": {"features": whole["features"].flatten()}, "other-labels": {"labels": whole["labels"][:1]},
    }.items():  # fmt: skip
        tensors = {key: value for key, value in (whole | changes).items() if value is not None}
        safetensors.torch.save_file(tensors, tmp_path / name, facts)
        with pytest.raises(UserError, match=f"{name} cannot be replayed"):
            replay(tmp_path / name)
    save_weights(tmp_path / "weights", fresh())
    (tmp_path / "garbage").write_bytes(b"no tensors at all")
    safetensors.torch.save_file(whole, tmp_path / "bare")
    for name, why in {"weights": "does not state", "garbage": "", "bare": "it does not state method, options"}.items():
        with pytest.raises(UserError, match=f"{name} cannot be replayed: .*{why}"):
            replay(tmp_path / name)
    with pytest.raises(MissingDataError, match="absent is not there"):
        replay(tmp_path / "absent")


def test_weights_round_trip_and_refuse_damage_and_other_networks(tmp_path: Path) -> None:
    model, other = fresh(), fresh(5)
    digest = save_weights(tmp_path / "w", model)
    load_weights(tmp_path / "w", other, digest)
    assert same(model, other)
    with pytest.raises(StoreError, match="SHA-256 differs"):
        load_weights(tmp_path / "w", other, "0" * 64)
    with pytest.raises(StoreError, match="does not fit"):
        load_weights(tmp_path / "w", AcmNet(AcmNetOptions(), 8, 3), digest)
    with pytest.raises(StoreError, match="Cannot read"):
        load_weights(tmp_path / "none", other, digest)


def test_weights_of_another_shape_are_refused_in_one_line(tmp_path: Path) -> None:
    digest = save_weights(tmp_path / "w", fresh())
    wider = AcmNet(AcmNetOptions(dropout=0.5), 17, 4)
    with pytest.raises(StoreError, match=r"does not fit acmnet: .*size mismatch for") as failed:
        load_weights(tmp_path / "w", wider, digest)
    assert "\n" not in str(failed.value)


def test_a_failed_step_with_odd_video_names_is_told(tmp_path: Path) -> None:
    bad = videos()
    bad[3].features[:, 5] = np.nan
    with pytest.raises(RunError):
        train(fresh(), bad, SPEC, 0, tmp_path, RUN)
    with safetensors.safe_open(tmp_path / FAILED_STEP, "pt") as kept:
        facts, tensors = kept.metadata(), {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118
    names = [[name] for name in json.loads(facts["videos"])]
    safetensors.torch.save_file(tensors, tmp_path / FAILED_STEP, facts | {"videos": json.dumps(names)})
    assert main(["debug", "replay", str(tmp_path / FAILED_STEP)]) in (0, 4)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["memory.slots", "base.classifier.bias"])
def test_one_value_that_is_not_finite_is_found(name: str, value: float) -> None:
    method = fresh(kind="codewords")
    _check_weights(method, 0)
    method.state_dict()[name].view(-1)[3] = value
    with pytest.raises(RunError, match=rf"not finite after epoch 1 \({name}\)"):
        _check_weights(method, 0)
