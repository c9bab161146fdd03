"""Looks between epochs: what they see, that training does not notice them, and that they outlive a kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data.opening import open_dataset
from harness.data.tiny import write_tiny
from harness.io.console import OnProgress
from harness.random_streams import numpy_stream
from harness.records.files import PSEUDO_LABELS
from harness.records.run_folder import FinishedRun
from harness.records.scores import pseudo_labels
from harness.records.store import Store
from harness.runs.examples import examples_of
from harness.runs.execute import build, execute
from harness.runs.observing import GRADIENT_BATCHES, OBSERVED, Observer, gradients_of_added_terms, pseudo_label_quality
from harness.runs.spec import plan_run
from tests.helpers.faults import Killed
from tests.helpers.runs import EPOCHS, SIZES, at, die
from wstal.cross_video import CrossVideo
from wstal.errors import UserError
from wstal.evaluation.ranking import calibration_error, ranking_quality
from wstal.types import Batch


def observed(
    data: Path,
    store: Path,
    method: str,
    every: int | None,
    on_progress: OnProgress = lambda *_: None,
) -> FinishedRun:
    source = open_dataset(data)
    spec = plan_run(method, 0, source, SIZES)
    return FinishedRun.open(execute(spec, source, Store(store), torch.device("cpu"), on_progress, every)[0])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("observing"), train=12, test=4, width=32)


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    return observed(tiny, tmp_path_factory.mktemp("store"), "rmgcl-gksa", 3)


@pytest.mark.usefixtures("many_checkpoints")
def test_looks_change_no_bit_of_a_run_and_outlive_a_kill(tiny: Path, tmp_path: Path, run: FinishedRun) -> None:
    plain = observed(tiny, tmp_path / "plain", "rmgcl-gksa", None)
    assert plain.record.artefacts == run.record.artefacts
    with pytest.raises(Killed):
        observed(tiny, tmp_path / "killed", "rmgcl-gksa", 3, at("train", EPOCHS - 1, die))
    again = observed(tiny, tmp_path / "killed", "rmgcl-gksa", 3)
    assert again.record.observations == run.record.observations
    with pytest.raises(UserError, match="without looks"):
        observed(tiny, tmp_path / "plain", "rmgcl-gksa", 3)
    with pytest.raises(UserError, match=r"with looks after epochs 3, 6, \d+ alone, not every 2"):
        observed(tiny, tmp_path / "killed", "rmgcl-gksa", 2)
    assert observed(tiny, tmp_path / "killed", "rmgcl-gksa", None).record.id == run.record.id


def test_looks_are_after_every_few_epochs_and_the_last(run: FinishedRun) -> None:
    looks = run.record.observations
    assert [look.epoch for look in looks] == [3, 6, EPOCHS]
    # nothing changes after the last epoch: its look is the result
    last = looks[-1].test
    assert last is not None
    assert last.mean_ap == run.record.scored.mean_ap


def test_pseudo_labels_are_judged_by_branch(run: FinishedRun) -> None:
    first, *_, last = (look.pseudo_labels for look in run.record.observations)
    assert set(first) <= {"main", "auxiliary"}
    assert set(last) == {"main", "auxiliary"}
    assert all(0 <= values[key] <= 100 for values in last.values() for key in ("ap", "auc"))


def test_true_labels_are_perfect_and_reversed_ones_the_opposite(tiny: Path) -> None:
    source = open_dataset(tiny)
    videos, truth = source.videos("train"), source.ground_truth("train")
    labels: dict[str, Any] = {}
    for index, video in enumerate(videos):
        middle = (np.arange(len(video.features)) + 0.5) * video.seconds_per_snippet
        mine = truth.video == index
        within = (middle[:, None] >= truth.start[mine]) & (middle[:, None] < truth.end[mine])
        labels[video.name] = torch.from_numpy(within.any(axis=1)).double()[:, None].repeat(1, 3)
    spec = plan_run("acmnet", 0, source, SIZES)
    method = build(spec, 32, 3, torch.device("cpu"))

    def given(features: Iterator[torch.Tensor]) -> Iterator[dict[str, torch.Tensor]]:
        for video, _ in zip(videos, features, strict=True):
            yield {"true": labels[video.name], "reversed": 1 - labels[video.name]}

    method.pseudo_labels = given  # type: ignore[method-assign, assignment]
    quality = pseudo_label_quality(method, videos, truth, spec.recipe.train)
    assert (quality["true"]["ap"], quality["true"]["auc"], quality["true"]["error"]) == (100, 100, 0)
    assert quality["true"]["score"] == quality["true"]["positive"]
    assert (quality["reversed"]["auc"], quality["reversed"]["error"]) == (0, 100)


def test_pseudo_labels_of_test_videos_are_kept_for_pictures(run: FinishedRun) -> None:
    found = pseudo_labels(run, "test_000")
    assert set(found) == {"main", "auxiliary"}
    assert found["main"].shape == found["auxiliary"].shape
    assert ((found["main"] >= 0) & (found["main"] <= 1)).all()


def test_a_method_without_pseudo_labels_has_none(tiny: Path, tmp_path: Path) -> None:
    run = observed(tiny, tmp_path, "acmnet", 100)
    assert PSEUDO_LABELS not in run.record.artefacts
    assert pseudo_labels(run, "test_000") == {}
    assert [(look.epoch, look.pseudo_labels) for look in run.record.observations] == [(EPOCHS, {})]


def test_an_observer_does_not_look_twice(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(method: object) -> dict[str, int]:
        seen.append(len(seen))
        return {"value": len(seen)}

    module = torch.nn.Linear(1, 1)
    for _ in range(2):
        observer = Observer(2, 5, tmp_path, look)
        for epoch in range(1, 6):
            observer(module, epoch)  # type: ignore[arg-type]
    assert [one["epoch"] for one in json.loads((tmp_path / OBSERVED).read_bytes())] == [2, 4, 5]
    assert len(seen) == 3


def test_looks_have_the_gradients_of_every_added_term(run: FinishedRun) -> None:
    looks = [look.gradients for look in run.record.observations]
    assert set(looks[-1]) == {"contrast", "auxiliary", "pseudo_label"}
    assert all(-1 <= values["cosine"] <= 1 and values["norm"] > 0 for values in looks[-1].values())


def test_opposite_terms_have_a_cosine_of_minus_one(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_dataset(tiny)
    spec = plan_run("rmgcl-gksa", 0, source, SIZES)
    method = build(spec, 32, 3, torch.device("cpu"))
    assert isinstance(method, CrossVideo)
    weight = next(method.base.parameters())

    def losses(batch: object) -> dict[str, torch.Tensor]:
        base = weight.square().sum()
        terms = {"contrast": -3 * base, "auxiliary": base, "pseudo_label": torch.zeros(())}
        added = method.added_terms(terms)
        return terms | {"total": base + sum(added.values())}

    method.losses = losses  # type: ignore[method-assign]
    monkeypatch.setattr("harness.runs.observing.copy.deepcopy", lambda same: same)
    found = gradients_of_added_terms(method, source.videos("train"), spec.recipe.train, 0)
    mu, own = spec.recipe.method.contrast.weight, spec.recipe.method.auxiliary.weight  # type: ignore[attr-defined]
    assert found["contrast"] == pytest.approx({"cosine": -1, "norm": 3 * mu})
    assert found["auxiliary"] == pytest.approx({"cosine": 1, "norm": own})
    assert set(found) == {"contrast", "auxiliary"}


def weak_batch(batch: object) -> Batch:
    assert isinstance(batch, Batch)
    return batch


def test_gradients_are_those_of_the_parameters_that_the_base_trains(tiny: Path) -> None:
    source = open_dataset(tiny)
    spec = plan_run("rmgcl-gksa", 0, source, SIZES | {"method.base.dropout": 0.0, "method.auxiliary.dropout": False})
    train, videos = spec.recipe.train, source.videos("train")
    method = build(spec, 32, 3, torch.device("cpu"))
    assert isinstance(method, CrossVideo)
    method.start_epoch(train.epochs - 1, train.epochs)
    examples, rng = examples_of(method, videos, train, 0), numpy_stream(0, "gradients")
    chosen = method.train_batches(examples.labels, train.batch_size, rng)
    method.losses(weak_batch(examples.batch(chosen[0], rng)[0]))
    method.end_step()  # the bank has something
    found = gradients_of_added_terms(method, videos, train, 0)

    rng, plain, weights = numpy_stream(0, "gradients"), [], [*method.base.parameters()]
    for indices in method.train_batches(examples.labels, train.batch_size, rng)[:GRADIENT_BATCHES]:
        terms = method.losses(weak_batch(examples.batch(indices, rng)[0]))
        base = terms["total"] - sum(method.added_terms(terms).values())
        own, other = (
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)]
            )
            for loss in (base, terms["auxiliary"])
        )
        plain.append((torch.cosine_similarity(own, other, dim=0).item(), (other.norm() / own.norm()).item()))
    expected = dict(zip(("cosine", "norm"), np.mean(plain, axis=0), strict=True))
    assert found["auxiliary"] == pytest.approx(expected, rel=1e-4)


def test_gradients_change_nothing(tiny: Path) -> None:
    source = open_dataset(tiny)
    spec = plan_run("rmgcl-gksa", 0, source, SIZES)
    method = build(spec, 32, 3, torch.device("cpu"))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    assert gradients_of_added_terms(method, source.videos("train"), spec.recipe.train, 0) == {}  # no bank yet
    method.start_epoch(spec.recipe.train.epochs - 1, spec.recipe.train.epochs)
    gradients_of_added_terms(method, source.videos("train"), spec.recipe.train, 0)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_is_that_of_a_plain_loop(rows: list[tuple[float, bool]]) -> None:
    score, positive = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    plain = 0.0
    for low in range(10):
        inside = [row for row in rows if low == min(int(row[0] * 10), 9)]
        if inside:
            gap = abs(np.mean([row[0] for row in inside]) - np.mean([row[1] for row in inside]))
            plain += len(inside) / len(rows) * float(gap)
    assert calibration_error(score, positive) == pytest.approx(plain, abs=1e-12)


def plain_quality(score: list[float], positive: list[bool]) -> tuple[float, float]:
    """By threshold and by pair."""
    count, ap, before = sum(positive), 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        kept = [label for value, label in zip(score, positive, strict=True) if value >= threshold]
        ap += (sum(kept) / count - before) * sum(kept) / len(kept)
        before = sum(kept) / count
    pairs = [
        (a > b) + (a == b) / 2
        for a, mine in zip(score, positive, strict=True)
        for b, theirs in zip(score, positive, strict=True)
        if mine and not theirs
    ]
    return ap, sum(pairs) / len(pairs)


@given(st.lists(st.tuples(st.integers(0, 5).map(float), st.booleans()), min_size=2, max_size=30))
def test_ranking_quality_is_that_of_a_plain_loop(rows: list[tuple[float, bool]]) -> None:
    score, positive = [row[0] for row in rows], [row[1] for row in rows]
    found = ranking_quality(np.array(score), np.array(positive))
    if len(set(positive)) < 2:
        assert np.isnan(found).all()
    else:
        assert found == pytest.approx(plain_quality(score, positive))
