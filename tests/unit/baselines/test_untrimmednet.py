"""UntrimmedNet's head: selection and loss by hand, released localization by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.untrimmednet import UntrimmedNet, UntrimmedNetOptions, UntrimmedNetwork, smoothed_and_relative
from wstal.localize import localize
from wstal.types import Batch, SnippetScores

WIDTH, CLASSES = 6, 4


def network(**options: object) -> UntrimmedNetwork:
    """With weights large enough to tell classes and clips apart."""
    torch.manual_seed(0)
    model = UntrimmedNetwork(UntrimmedNetOptions.model_validate(options), WIDTH, CLASSES).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model.double()


def clip_logits(model: UntrimmedNetwork, features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Class logits of the 7 clips of three rows each, and of the selection."""
    with torch.no_grad():
        logits = model.classifier(features).numpy()
        selection = np.zeros((21, 1)) if model.attention is None else model.attention(features).numpy()
    mean = [slice(3 * clip, 3 * clip + 3) for clip in range(7)]
    return np.array([logits[rows].mean(axis=0) for rows in mean]), np.array([selection[rows].mean() for rows in mean])


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)


def test_soft_selection_by_hand() -> None:
    model, features = network(), torch.rand(21, WIDTH).double()
    logits, selection = clip_logits(model, features)
    expected = sum(weight * softmax(clip) for weight, clip in zip(softmax(selection), logits, strict=True))
    np.testing.assert_allclose(model.video_log_scores(features[None])[0].exp().detach(), expected, rtol=1e-10)


def test_hard_selection_by_hand() -> None:
    model, features = network(selection="hard"), torch.rand(21, WIDTH).double()
    logits, _ = clip_logits(model, features)
    expected = softmax(np.sort(logits, axis=0)[-3:].mean(axis=0))
    np.testing.assert_allclose(model.video_log_scores(features[None])[0].exp().detach(), expected, rtol=1e-10)
    assert [name for name, _ in model.named_parameters()] == ["classifier.weight", "classifier.bias"]


def test_loss_shares_a_video_among_its_labels() -> None:
    model, features = network(), torch.rand(2, 21, WIDTH).double()
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]]).double()
    log = model.video_log_scores(features)
    expected = -((log[0, 0] + log[0, 3]) / 2 + log[1, 1]) / 2
    torch.testing.assert_close(model.losses(Batch(features, labels, ("a", "b")))["total"], expected)


def test_clips_are_as_even_as_can_be() -> None:
    rows = torch.arange(10.0)[None, :, None]
    assert network()._clips(rows).flatten().tolist() == [0.5, 2.5, 4.5, 6, 7, 8, 9]
    assert network()._clips(rows[:, :2]).flatten().tolist() == [0, 1]


@pytest.mark.parametrize("selection", ["soft", "hard"])
def test_both_selections_learn_and_score_the_shortest_videos(selection: str) -> None:
    model = UntrimmedNet(UntrimmedNetOptions(selection=selection, streams=(4, 2)), WIDTH, CLASSES).eval()
    for rows in (1, 2, 3, 20):
        batch = Batch(torch.rand(3, rows, WIDTH), torch.eye(CLASSES)[:3], ("a", "b", "c"))
        model.zero_grad()
        model.losses(batch)["total"].backward()
        scores = model.score(batch.features[0])
        assert all(signal.isfinite().all() and len(signal) == rows for signal in scores.signals.values())
        assert scores.video_scores.sum().item() == pytest.approx(1)
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_dropout_is_shared_by_classifier_and_selection() -> None:
    model = UntrimmedNetwork(UntrimmedNetOptions(), 2000, 1).train()
    seen: list[Tensor] = []
    for layer in (model.classifier, model.attention):
        layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    torch.manual_seed(0)
    model.losses(Batch(torch.ones(2, 21, 2000), torch.ones(2, 1), ("a", "b")))
    assert torch.equal(seen[0], seen[1])
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert seen[0].max().item() == pytest.approx(5)


def test_initialisation_is_the_released_one() -> None:
    torch.manual_seed(0)
    model = UntrimmedNetwork(UntrimmedNetOptions(), 1024, 20)
    assert model.classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert model.attention.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not model.classifier.bias.any()
    assert model.parameter_count() == 1024 * 20 + 20 + 1024


def test_video_score_is_softer_than_training_and_streams_are_averaged() -> None:
    torch.manual_seed(0)
    model = UntrimmedNet(UntrimmedNetOptions(streams=(4, 2)), WIDTH, CLASSES).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    features = torch.rand(9, WIDTH)
    video, cas, attention = np.zeros(CLASSES), np.zeros((9, CLASSES)), np.zeros(9)
    with torch.no_grad():
        scores = model.score(features)
        for net, part in zip(model.networks, features.split((4, 2), dim=1), strict=True):
            logits, weights = net.classifier(part).numpy(), softmax(net.attention(part)[:, 0].numpy() / 3)
            video += softmax((weights[:, None] * logits).sum(axis=0)) / 2
            cas += softmax(logits) / 2
            attention += weights / weights.max() / 2
    np.testing.assert_allclose(scores.video_scores, video, rtol=1e-5)
    np.testing.assert_allclose(scores.signals["cas"], cas, rtol=1e-5)
    np.testing.assert_allclose(scores.signals["attention"], attention, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_detections_equal_the_released_localization_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, classes, seconds = 40, 5, 0.6
    cas = softmax(rng.normal(size=(rows, classes)) * 2)
    video_scores = np.array([0.5, 0.1, 0.25, 0.12, 0.03])
    smoothed, relative = smoothed_and_relative(torch.from_numpy(cas))
    said = SnippetScores("v", {"smoothed": smoothed.numpy(), "relative": relative.numpy()}, video_scores, seconds)
    found = localize([said], UntrimmedNet.recipe("thumos14").localizer, tuple("abcde"))

    expected = []
    for label in (0, 2, 3):  # above 0.1
        f = [(cas[t, label] + cas[min(t + 1, rows - 1), label]) / 2 for t in range(rows)]
        mask = [value > 0.5 * max(f) for value in f]
        mask = [mask[t] or (t > 0 and mask[t - 1]) for t in range(rows)] + [False]
        first, of_class = 0, []
        for t in range(rows + 1):
            if not mask[t]:
                if t > first:
                    score = sum(f[first:t]) / (t - first) + 0.2 * video_scores[label]
                    of_class.append((label, first * seconds, t * seconds, score))
                first = t + 1
        expected += sorted(of_class, key=lambda one: -one[3])
    assert len(expected) > 3
    actual = np.stack([found.label, found.start, found.end, found.score], axis=1)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_a_class_without_probability_has_no_nan() -> None:
    smoothed, relative = smoothed_and_relative(torch.zeros(3, 2))
    assert not smoothed.any()
    assert not relative.any()


def test_samples_and_schedule() -> None:
    model, rng = UntrimmedNet(UntrimmedNetOptions(), 4, 2), np.random.default_rng(0)
    draws = np.array([model.train_indices(210, 21, rng) for _ in range(200)])
    assert (np.diff(draws, axis=1) >= 0).all()
    assert (draws // 10 - np.arange(21) <= 1).all()  # row i from its own tenth row on, the next one's first included
    assert (draws >= 10 * np.arange(21)).all()
    train = UntrimmedNet.recipe("thumos14").train
    assert model.test_indices(2614, train.test_length).tolist() == list(range(2614))
    assert train.epochs * -(-200 // train.batch_size) == pytest.approx(2000, rel=0.01)
    for dataset, videos in {"activitynet12": 4819, "activitynet13": 10024, "fineaction": 8440}.items():
        assert UntrimmedNet.recipe(dataset).train.epochs * -(-videos // 16) == pytest.approx(3000, rel=0.06)
