"""What every registered method must hold to."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from harness.registry import load_method, method_entries
from harness.seeds import seed_torch
from wstal.localize import localize
from wstal.method import Method, Recipe
from wstal.types import Batch, SnippetScores

WIDTH, CLASSES = 16, 4
FAMILIES = ("thumos14", "activitynet12", "activitynet13", "fineaction", "somebody-else's")


@pytest.fixture(params=list(method_entries()))
def method(request: pytest.FixtureRequest) -> Method:
    """As it is late in training: what starts with an epoch or needs a step to be filled is there."""
    cls = load_method(request.param)
    seed_torch(0, "initialisation")
    made = cls(cls.recipe("thumos14").method, WIDTH, CLASSES).train()
    for epoch in (98, 99):
        made.start_epoch(epoch, 100)
        made.losses(batch())["total"].backward()
        made.end_step()
    made.zero_grad()
    return made


def batch(videos: int = 3, length: int = 20, dtype: torch.dtype = torch.float32) -> Batch:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.random((videos, length, WIDTH))).to(dtype)
    labels = torch.from_numpy(np.eye(CLASSES)[rng.integers(0, CLASSES, videos)]).to(dtype)
    return Batch(features, labels, tuple(f"v{i}" for i in range(videos)))


def test_name_is_the_registered_one_and_recipes_cover_every_data_set(method: Method) -> None:
    assert method_entries()[method.name].load() is type(method)
    for family in FAMILIES:
        recipe = type(method).recipe(family)
        assert isinstance(recipe.method, type(method).Options)
        stored = recipe.model_dump(mode="json")
        restored = Recipe.model_validate(stored | {"method": type(method).Options.model_validate(stored["method"])})
        assert restored == recipe


def test_options_refuse_unknown_fields(method: Method) -> None:
    with pytest.raises(ValidationError, match="no_such_option"):
        type(method).Options.model_validate({"no_such_option": 1})


def test_losses_are_finite_scalars_with_gradient_to_every_parameter(method: Method) -> None:
    method.eval()
    losses = method.losses(batch())
    assert all(value.shape == () and value.isfinite() for value in losses.values())
    losses["total"].backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_short_videos_train_and_score(method: Method, length: int) -> None:
    assert method.losses(batch(length=length))["total"].isfinite()
    scores = method.eval().score(batch(1, length).features[0])
    signals, video_scores = scores.signals, scores.video_scores
    assert video_scores.shape == (CLASSES,)
    assert all(len(signal) == length and signal.isfinite().all() for signal in signals.values())


def test_a_batch_without_labels_is_finite(method: Method) -> None:
    given = batch()
    assert method.losses(Batch(given.features, torch.zeros_like(given.labels), given.videos))["total"].isfinite()


def test_order_of_videos_changes_nothing(method: Method) -> None:
    method.eval()
    given, order = batch(), [2, 0, 1]
    shuffled = Batch(given.features[order], given.labels[order], tuple(given.videos[i] for i in order))
    for name, value in method.losses(given).items():
        torch.testing.assert_close(method.losses(shuffled)[name], value, rtol=1e-5, atol=1e-6)


def test_training_is_deterministic_by_seed(method: Method) -> None:
    def loss() -> torch.Tensor:
        seed_torch(1, "dropout", 0)
        return method.train().losses(batch())["total"]

    assert torch.equal(loss(), loss())


def test_steps_lower_the_loss(method: Method) -> None:
    method.eval()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    before = method.losses(batch())["total"].item()
    for _ in range(5):
        optimizer.zero_grad()
        method.losses(batch())["total"].backward()
        optimizer.step()
    assert method.losses(batch())["total"].item() < before


def test_single_precision_agrees_with_double(method: Method) -> None:
    method.eval()
    double = copy.deepcopy(method).double()
    for name, value in method.losses(batch()).items():
        expected = double.losses(batch(dtype=torch.float64))[name]
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)


def test_what_is_exported_scores_alike(method: Method) -> None:
    method.end_training()
    stored = {name: value.clone() for name, value in method.export_state().items()}
    restored = type(method)(method.spec, WIDTH, CLASSES).eval()
    missing, unexpected = restored.load_state_dict(stored, strict=False)
    assert not unexpected
    assert missing == [name for name in method.state_dict() if name not in stored]
    features = batch(1).features[0]
    scores, again = method.eval().score(features), restored.score(features)
    assert torch.equal(scores.video_scores, again.video_scores)
    assert all(torch.equal(scores.signals[name], again.signals[name]) for name in scores.signals)


def test_diagnostics_keep_their_names(method: Method) -> None:
    fresh = type(method)(method.spec, WIDTH, CLASSES).train()
    fresh.start_epoch(0, 100)
    assert fresh.losses(batch()).keys() == method.losses(batch()).keys()
    assert fresh.diagnostics().keys() == method.diagnostics().keys()


def test_scores_feed_the_methods_own_localizer(method: Method) -> None:
    method.eval()
    with torch.no_grad():
        said = method.score(batch(1).features[0])
    signals = {name: value.double().numpy() for name, value in said.signals.items()}
    scores = SnippetScores("v", signals, said.video_scores.double().numpy(), 0.64)
    for family in FAMILIES:
        detections = localize([scores], type(method).recipe(family).localizer, tuple("abcd"))
        assert np.isfinite(detections.score).all()
        assert (detections.end > detections.start).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_cpu(method: Method) -> None:
    method.eval()
    given = batch()
    expected = method.losses(given)["total"]
    on_gpu = copy.deepcopy(method).cuda()
    value = on_gpu.losses(Batch(given.features.cuda(), given.labels.cuda(), given.videos))["total"]
    torch.testing.assert_close(value.cpu(), expected, rtol=1e-4, atol=1e-5)
