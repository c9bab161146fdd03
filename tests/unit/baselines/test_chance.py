"""The two rows that classify and do not localize."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.acmnet import AcmNet
from baselines.chance import ChanceOptions, RandomScores, WholeVideo
from wstal.localize import localize
from wstal.types import Batch, Scores, SnippetScores

WIDTH, CLASSES = 6, 4


def made(cls: type[WholeVideo] = WholeVideo, seed: int = 0) -> WholeVideo:
    torch.manual_seed(seed)
    return cls(ChanceOptions(), WIDTH, CLASSES).eval()


def scored(scores: Scores) -> SnippetScores:
    return SnippetScores(
        "v",
        {name: signal.detach().double().numpy() for name, signal in scores.signals.items()},
        scores.video_scores.detach().double().numpy(),
        seconds_per_snippet=0.5,
        offset=1.0,
    )


def test_the_loss_is_a_softmax_on_the_mean_feature() -> None:
    model, features = made(), torch.rand(2, 5, WIDTH)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    logits = (features.mean(dim=1) @ model.classifier.weight.T + model.classifier.bias).detach().numpy()
    log = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    expected = -((log[0, 0] + log[0, 3]) / 2 + log[1, 1]) / 2
    assert model.losses(Batch(features, labels, ("a", "b")))["total"].item() == pytest.approx(expected, rel=1e-5)


def test_one_detection_spans_the_video_for_every_class_that_is_kept() -> None:
    model = made()
    torch.nn.init.zeros_(model.classifier.weight)
    with torch.no_grad():
        model.classifier.bias.copy_(torch.log(torch.tensor([0.5, 0.05, 0.15, 0.3])))
    said = scored(model.score(torch.rand(7, WIDTH)))
    found = localize([said], WholeVideo.recipe("thumos14").localizer, tuple("abcd"))
    assert found.label.tolist() == [0, 3]
    assert found.score.tolist() == pytest.approx([0.5, 0.3])
    assert found.start.tolist() == [1.0, 1.0]
    assert found.end.tolist() == [4.5, 4.5]


def test_random_scores_are_uniform_and_classify_alike() -> None:
    torch.manual_seed(0)
    features, random = torch.rand(5000, WIDTH), made(RandomScores)
    whole = made()
    scores = random.score(features)
    assert torch.equal(scores.video_scores, whole.score(features).video_scores)
    draws = torch.cat([scores.signals["cas"], scores.signals["attention"].unsqueeze(1)], dim=1)
    for column in draws.T:  # Kolmogorov-Smirnov: the largest gap to the uniform distribution, 1e-4 point
        gap = (column.sort().values - (torch.arange(5000) + 0.5) / 5000).abs().max().item()
        assert gap < 2.23 / 5000**0.5
    correlation = torch.corrcoef(draws.T) - torch.eye(CLASSES + 1)
    assert correlation.abs().max().item() < 5 / 5000**0.5


def test_random_scores_repeat_for_a_video_and_differ_between_videos_and_seeds() -> None:
    model, features = made(RandomScores), torch.rand(30, WIDTH)
    first = model.score(features).signals["attention"]
    assert torch.equal(model.score(features.clone()).signals["attention"], first)
    assert torch.equal(made(RandomScores).score(features).signals["attention"], first)
    assert not torch.equal(made(RandomScores, seed=1).score(features).signals["attention"], first)
    other = features.clone()
    other[0, 0] += 1e-3
    assert not torch.equal(model.score(other).signals["attention"], first)

    restored = made(RandomScores, seed=2)
    restored.load_state_dict(model.export_state())
    assert torch.equal(restored.score(features).signals["attention"], first)
    double = model.double().score(features.double()).signals["attention"]
    assert torch.equal(double.float(), first)


@pytest.mark.parametrize("dataset", ["thumos14", "activitynet13", "fineaction"])
def test_random_is_localized_like_acm_net(dataset: str) -> None:
    assert RandomScores.recipe(dataset).localizer == AcmNet.recipe(dataset).localizer
    assert RandomScores.recipe(dataset).train == WholeVideo.recipe(dataset).train
    assert WholeVideo.recipe(dataset).localizer.class_threshold == AcmNet.recipe(dataset).localizer.class_threshold
