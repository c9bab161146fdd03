"""TSCN: its formulas by hand, its rounds, and its gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.tscn import LOCALIZER, Tscn, TscnOptions, weighted_mean
from harness.testing import example
from wstal.localize import localize
from wstal.losses.attention import normalization_loss
from wstal.types import Batch, SnippetScores

LOW, HIGH = 1 / (1 + math.e), math.e / (1 + math.e)  # sigmoid of -1 and of 1
BATCH = Batch(torch.tensor([[[0.0, 0.0], [2.0, 2.0]]]), torch.tensor([[1.0, 0.0]]), ("v",))


def small(**options: Any) -> Tscn:
    """Two streams of one column each, whose x are the features, a = sigmoid(x - 1) and logits (x, -x)."""
    model = Tscn(TscnOptions(streams=(1, 1), **options), 2, 2).eval()
    with torch.no_grad():
        for network in model.networks:
            for parameter in network.parameters():
                parameter.zero_()
            network.embedding[0].weight[0, 0, 1] = 1.0
            network.attention.weight.fill_(1.0)
            network.attention.bias.fill_(-1.0)
            network.classifier.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    return model


def sure(model: Tscn, *attention: float) -> Tscn:
    """The model with teachers of a constant attention in each stream."""
    for teacher, one in zip(model.teachers, attention, strict=True):
        teacher.network.attention.weight.zero_()
        teacher.network.attention.bias.fill_(math.log(one / (1 - one)))
    return model


def test_foreground_feature_by_hand() -> None:
    embedded, attention = torch.tensor([[[1.0, 4.0], [5.0, 0.0]]]), torch.tensor([[[0.25], [0.75]]])
    assert weighted_mean(embedded, attention)[0].tolist() == pytest.approx([4.0, 1.0])
    # weights need not sum to 1
    assert weighted_mean(embedded, attention / 2)[0].tolist() == pytest.approx([4.0, 1.0])


def test_losses_of_the_base_by_hand() -> None:
    model = small()
    model.start_epoch(0, 9)
    losses = model.losses(BATCH)
    # the attentions sum to 1: x_fg = 2 HIGH
    cost = math.log1p(math.exp(-4 * HIGH))
    assert losses["classification"].item() == pytest.approx(2 * cost)
    assert losses["normalization"].item() == pytest.approx(2 * (LOW - HIGH))
    assert losses["consensus"].item() == 0
    assert losses["total"].item() == pytest.approx(2 * cost + 0.1 * 2 * (LOW - HIGH), abs=1e-7)


@pytest.mark.parametrize(
    ("options", "truth", "kept"),
    [
        ({}, (0, 1), 0.1),
        ({"normalization_in_rounds": False}, (0, 1), 0.0),
        ({"hard": False}, (LOW, HIGH), 0.1),
        ({"threshold": 0.2}, (1, 1), 0.1),
        ({"threshold": 0.9, "consensus": 3.0}, (0, 0), 0.1),
    ],
)
def test_losses_of_a_round_by_hand(options: dict[str, Any], truth: tuple[float, float], kept: float) -> None:
    model = small(**options)
    model.start_epoch(3, 9)
    losses = model.losses(BATCH)
    consensus = (LOW - truth[0]) ** 2 + (HIGH - truth[1]) ** 2  # two streams, the mean of two snippets
    assert losses["consensus"].item() == pytest.approx(consensus, abs=1e-7)
    weighted = losses["classification"].item() + options.get("consensus", 1.0) * consensus
    assert losses["total"].item() == pytest.approx(weighted + kept * 2 * (LOW - HIGH))


@pytest.mark.parametrize(
    ("rgb", "flow", "label"),
    [(0.9, 0.9, 1), (0.6, 0.6, 1), (0.99, 0.1, 0), (0.1, 0.7, 0), (0.1, 0.9, 1), (0.4, 0.4, 0)],
)
def test_consensus_of_two_streams_by_hand(rgb: float, flow: float, label: int) -> None:
    """0.4 of RGB and 0.6 of flow, above 0.5."""
    model = sure(small(), rgb, flow)
    assert model.pseudo_truth(model.split(BATCH.features)).flatten().tolist() == [label, label]
    soft = sure(small(hard=False), rgb, flow)
    expected = torch.full((1, 2, 1), 0.4 * rgb + 0.6 * flow)
    torch.testing.assert_close(soft.pseudo_truth(soft.split(BATCH.features)), expected)


def test_rounds_share_what_the_base_leaves() -> None:
    model = small()
    assert [model.stage(epoch, 12) for epoch in range(12)] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [small(rounds=2, base_share=0.5).stage(epoch, 8) for epoch in range(8)] == [0, 0, 0, 0, 1, 1, 2, 2]
    # there is a base before any label, and a training of the base alone
    assert [small(base_share=0.0).stage(epoch, 3) for epoch in range(3)] == [0, 1, 3]
    assert {small(base_share=1.0).stage(epoch, 5) for epoch in range(5)} == {0}
    assert model.stage(0, 1) == 0


def test_teachers_are_the_networks_at_the_start_of_a_round_and_keep_still_within_it() -> None:
    model = small()

    def bias() -> list[float]:
        return [teacher.network.attention.bias.item() for teacher in model.teachers]

    def train(value: float) -> None:
        with torch.no_grad():
            for network in model.networks:
                network.attention.bias.fill_(value)

    found = []
    for epoch in range(12):
        train(epoch)
        model.start_epoch(epoch, 12)
        found.append(bias())
    assert found[4:] == [[round_, round_] for round_ in (4, 4, 6, 6, 8, 8, 10, 10)]


def test_scores_by_hand() -> None:
    scores = small().score(BATCH.features[0])
    assert scores.signals["attention"].tolist() == pytest.approx([LOW, HIGH])
    sure_of_one = 1 / (1 + math.exp(-4))  # softmax of (2, -2)
    expected = [[LOW / 2, LOW / 2], [HIGH * sure_of_one, HIGH * (1 - sure_of_one)]]
    torch.testing.assert_close(scores.signals["cas"], torch.tensor(expected))
    video = 1 / (1 + math.exp(-4 * HIGH))
    assert scores.video_scores.tolist() == pytest.approx([video, 1 - video])


def test_streams_are_fused_by_beta() -> None:
    model = small()
    with torch.no_grad():
        model.networks[1].attention.bias.fill_(-50.0)  # flow sees nothing
        model.networks[1].classifier.weight.neg_()
    scores = model.score(BATCH.features[0])
    assert scores.signals["attention"].tolist() == pytest.approx([0.4 * LOW, 0.4 * HIGH])
    sure_of_one = 1 / (1 + math.exp(-4))
    tcam = 0.4 * sure_of_one + 0.6 * (1 - sure_of_one)
    assert scores.signals["cas"][1, 0].item() == pytest.approx(0.4 * HIGH * tcam)


def test_detections_by_hand() -> None:
    """Runs of attention above 17 thresholds, whose score is inside minus around; what is not above it, is dropped."""
    spec = LOCALIZER.model_copy(update={"upsampling": 1})
    attention = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    cas = np.stack([attention * 0.8 + 0.1, 1 - attention], axis=1)
    scores = SnippetScores("v", {"attention": attention, "cas": cas}, np.array([0.9, 0.9]), 1.0)
    found = localize([scores], spec, ("a", "b"))
    # one row to either side has 0.1; the other class has less inside than around
    assert (found.label.tolist(), found.start.tolist(), found.end.tolist()) == ([0], [4.0], [8.0])
    assert found.score.tolist() == pytest.approx([0.8])
    assert len(spec.sources[0].thresholds) == 17
    assert (spec.sources[0].thresholds[0], spec.sources[0].thresholds[-1]) == (0.1, 0.9)


def test_what_is_stored_has_no_teacher_and_checkpoints_do() -> None:
    model = small()
    assert any(name.startswith("teachers.") for name in model.state_dict())
    assert {name.split(".")[0] for name in model.export_state()} == {"networks"}


@pytest.mark.parametrize("epoch", [0, 5])
def test_gradients(epoch: int) -> None:
    torch.manual_seed(0)
    model = Tscn(TscnOptions(streams=(8, 8), ratio=4), 16, 4).double().eval()
    given = example(2, length=9, dtype=torch.float64)
    model.start_epoch(epoch, 6)

    def total(features: Tensor) -> Tensor:
        return model.losses(Batch(features, given.labels, given.videos))["total"]

    assert torch.autograd.gradcheck(total, given.features[..., :16].clone().requires_grad_())


def test_gradient_of_the_normalization() -> None:
    attention = torch.rand(2, 9, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: normalization_loss(a, 4), attention)
    found = torch.autograd.grad(normalization_loss(attention, 4), attention)[0]
    # two lowest are lowered, two highest raised, each by half of a mean over two videos
    assert sorted(found[0].flatten().tolist()) == pytest.approx([-0.25] * 2 + [0.0] * 5 + [0.25] * 2)


def test_pseudo_labels_are_the_consensus_of_the_round_before() -> None:
    model = sure(small(), 0.9, 0.45)
    video = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    model.start_epoch(0, 9)
    (before,) = model.pseudo_labels([video])
    assert before.keys() == {"main"}
    assert before["main"].tolist() == pytest.approx([pytest.approx([LOW, LOW]), pytest.approx([HIGH, HIGH])])
    model.refined.fill_(value=True)
    # 0.4 of 0.9 and 0.6 of 0.45 are 0.63, above theta, at every snippet
    (after,) = model.pseudo_labels([video])
    assert after["consensus"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert torch.equal(after["main"], before["main"])
    # a run that is killed while it is scored continues from its last checkpoint, and starts no epoch
    continued = small()
    continued.load_state_dict(model.state_dict())
    (again,) = continued.pseudo_labels([video])
    assert again.keys() == after.keys()
    assert torch.equal(again["consensus"], after["consensus"])
