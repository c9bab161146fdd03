"""Every registered method passes every check, and the checks notice what they are for."""

from __future__ import annotations

import copy
import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.acmnet import AcmNet
from harness.registry import load_method, method_entries
from harness.runs.failed_step import losses_of
from harness.testing import CHECKS, check_method, example, example_for, late_in_training, on_device
from wstal.method import Method
from wstal.supervised import SupervisedMethod
from wstal.types import Batch, IntArray, Scores, Video


@pytest.mark.parametrize("name", list(method_entries()))
@pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
def test_method(check: Callable[[type[Method]], None], name: str) -> None:
    check(load_method(name))


@pytest.mark.parametrize("name", list(method_entries()))
def test_name_is_the_registered_one(name: str) -> None:
    assert load_method(name).name == name


@pytest.mark.parametrize("name", list(method_entries()))
def test_a_training_step_asks_the_device_nothing(name: str) -> None:
    """On `meta`, a device without values: a step that reads one, and so would wait for a GPU, fails."""
    method = late_in_training(load_method(name))
    if isinstance(method, SupervisedMethod) and method.MATCHES_ON_HOST:
        pytest.skip("The method matches on the CPU in each step.")
    step = on_device(example_for(method, 4), "meta")
    losses_of(method.to("meta"), step)["total"].backward()
    method.end_step()


@pytest.mark.parametrize("name", list(method_entries()))
def test_a_batch_scores_as_its_videos_alone(name: str) -> None:
    method = late_in_training(load_method(name))
    method.end_training()
    features = example(3).features
    together = method.eval().score_batch(features)
    assert len(together) == len(features)
    for found, expected in zip(together, map(method.score, features), strict=True):
        assert found.signals.keys() == expected.signals.keys()
        assert found.class_scores.keys() == expected.class_scores.keys()
        torch.testing.assert_close(found.signals, expected.signals)
        torch.testing.assert_close(found.class_scores, expected.class_scores)
        torch.testing.assert_close(found.video_scores, expected.video_scores)


def test_check_method_runs_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, type[Method]]] = []
    for name in CHECKS:
        monkeypatch.setitem(CHECKS, name, functools.partial(lambda name, method: seen.append((name, method)), name))
    check_method(AcmNet)
    assert seen == [(name, AcmNet) for name in CHECKS]


def test_the_old_name_of_shared_warmup_is_an_error() -> None:
    def trunk(self: Method, epochs: int) -> tuple[Method, int]:
        return self, epochs

    with pytest.raises(TypeError, match=r"Method\.trunk\(epochs\) is now called shared_warmup\(epochs\).*in Old"):
        type("Old", (AcmNet,), {"trunk": trunk})


def test_a_backbone_may_be_called_trunk() -> None:
    def trunk(self: Method, features: Tensor) -> Tensor:
        return features

    assert issubclass(type("Backbone", (AcmNet,), {"trunk": trunk}), Method)


def test_labels_are_copied_to_the_host_only_where_none_are_given() -> None:
    labels = torch.zeros(1, 4)
    assert torch.equal(Batch(torch.zeros(1, 2, 3), labels, ("v",)).host_labels, labels)
    given = torch.ones(1, 4)
    batch = Batch(torch.zeros(1, 2, 3), labels.to("meta"), ("v",), labels_on_host=given)
    assert dataclasses.replace(batch, videos=("w",)).host_labels is given


class Unused(AcmNet):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.spare = torch.nn.Linear(2, 2)


class ByOrder(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return terms | {"total": terms["total"] * batch.features[0, 0, 0]}


class Unseeded(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return terms | {"total": terms["total"] + torch.randn((), generator=GENERATOR)}


class Rounded(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return terms | {"total": terms["total"] + (1e8 * terms["total"]).sin()}


class Climbing(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return terms | {"total": terms["total"].detach() * 2 - terms["total"]}


class Reading(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        with open(__file__) as file:
            file.read(1)
        return super().losses(batch)


class Logits(AcmNet):
    def score(self, features: Tensor) -> Scores:
        scores = super().score(features)
        return Scores(
            {"cas": 5 * scores.signals["cas"].log(), "attention": scores.signals["attention"]}, scores.video_scores
        )


class Logit(AcmNet):
    def score(self, features: Tensor) -> Scores:
        scores = super().score(features)
        return Scores(scores.signals, 5 * scores.video_scores)


class Spread(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return terms | {"total": terms["total"] + self.embed(batch.features).var(dim=1, correction=0).sqrt().mean()}


class Warming(AcmNet):
    steps = 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        return terms | {"total": terms["total"] * (1 - 0.5**self.steps)}

    def end_step(self) -> None:
        self.steps += 1


class Averaging(AcmNet):
    """A buffer that is fed from outside the state."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.register_buffer("mean", torch.zeros(()))
        self.last = 0.0

    def end_step(self) -> None:
        self.mean += self.last  # type: ignore[assignment, operator]
        self.last += 1


class Preparing(AcmNet):
    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        with open(__file__) as file:
            file.read(1)


class Headlong(AcmNet):
    def test_indices(self, length: int, at_most: int) -> IntArray:
        return np.arange(min(length, at_most))


class Lone(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {name: value / (batch.features.shape[1] - 1) for name, value in super().losses(batch).items()}


class Padding(AcmNet):
    PADS = True


class Forgetful(AcmNet):
    def export_state(self) -> dict[str, Tensor]:
        return {name: torch.zeros_like(value) for name, value in super().export_state().items()}


class Growing(AcmNet):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.steps = getattr(self, "steps", 0) + 1
        return super().losses(batch) | ({"late": torch.zeros(())} if self.steps > 1 else {})


GENERATOR = torch.Generator().manual_seed(0)
WRONG = {
    Unused: "losses_are_finite_with_gradient_to_every_parameter",
    ByOrder: "order_of_videos_changes_nothing",
    Unseeded: "the_seed_decides",
    Rounded: "single_precision_agrees_with_double",
    Climbing: "steps_lower_the_loss",
    Reading: "training_reads_no_file",
    Logits: "short_videos_train_and_score",
    Logit: "short_videos_train_and_score",
    Spread: "short_videos_train_and_score",
    Lone: "short_videos_train_and_score",
    Warming: "weights_are_all_that_training_goes_on_from",
    Averaging: "weights_are_all_that_training_goes_on_from",
    Preparing: "training_reads_no_file",
    Headlong: "batches_show_every_video",
    Padding: "padding_changes_nothing",
    Forgetful: "what_is_exported_scores_alike",
    Growing: "terms_keep_their_names",
}


@pytest.mark.parametrize("method", WRONG, ids=lambda method: method.__name__)
def test_a_wrong_method_is_caught(method: type[Method]) -> None:
    with pytest.raises(AssertionError):
        CHECKS[WRONG[method]](method)


@pytest.mark.parametrize(
    ("line", "reads"),
    [("from harness.testing import *", False), ("from harness.data.annotations import read_annotations", True)],
)
def test_a_module_may_import_the_checks_but_not_annotations(
    monkeypatch: pytest.MonkeyPatch, line: str, reads: bool
) -> None:
    module = ModuleType("somebodys")
    exec(line, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    method = type("Fine", (AcmNet,), {"__module__": module.__name__})
    if reads:
        with pytest.raises(AssertionError, match="imports the reader"):
            CHECKS["training_reads_no_file"](method)
    else:
        CHECKS["training_reads_no_file"](method)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", list(method_entries()))
def test_cuda_agrees_with_cpu(name: str) -> None:
    method = late_in_training(load_method(name)).eval()
    given = example_for(method)
    expected = losses_of(method, given)["total"]
    value = losses_of(copy.deepcopy(method).cuda(), on_device(given, "cuda"))["total"]
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("name", list(method_entries()))
def test_a_training_step_on_cuda_waits_for_nothing(name: str) -> None:
    method = late_in_training(load_method(name))
    if isinstance(method, SupervisedMethod) and method.MATCHES_ON_HOST:
        pytest.skip("The method matches on the CPU in each step.")
    step = on_device(example_for(method, 4), "cuda")
    method.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses_of(method, step)["total"].backward()
        method.end_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
