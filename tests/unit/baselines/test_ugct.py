"""UGCT: its formulas by hand, who teaches whom, and its gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.ugct import LOCALIZER, Ugct, UgctOptions, risen, uncertain_regression
from harness.testing import example
from wstal.localize import localize
from wstal.types import Batch, SnippetScores

LOW, HIGH = 1 / (1 + math.e), math.e / (1 + math.e)  # sigmoid of -1 and of 1
BATCH = Batch(torch.tensor([[[0.0, 0.0], [2.0, 2.0]]]), torch.tensor([[1.0]]), ("v",))


def small(**options: Any) -> Ugct:
    """Two streams of one column each: x are the features, a = sigmoid(x - 1), logits (x, -x), u without weights.

    Labels have a fixed threshold, so that each snippet's label is its own.
    """
    model = Ugct(UgctOptions(**{"streams": (1, 1), "labels": "threshold"} | options), 2, 1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for network in model.networks:
            network.embedding[0].weight[0, 0, 1] = 1.0
            network.attention.weight.fill_(1.0)
            network.attention.bias.fill_(-1.0)
            network.classifier.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    model.end_step()  # the first one makes the teachers equal
    return model


def log_softmax(of: float, other: float) -> float:
    return -math.log1p(math.exp(other - of))


def test_losses_by_hand() -> None:
    losses = small().losses(BATCH)
    # attentions sum to 1, as 1 minus them do: the pooled logits are (2 HIGH, -2 HIGH) and (2 LOW, -2 LOW)
    foreground, background = -log_softmax(2 * HIGH, -2 * HIGH), -log_softmax(-2 * LOW, 2 * LOW)
    assert losses["foreground"].item() == pytest.approx(2 * foreground)
    assert losses["background"].item() == pytest.approx(2 * background)
    assert losses["sparsity"].item() == pytest.approx(2 * 0.5)
    # labels 0 and 1; u = softplus(0) = log 2, a weight of one half
    pseudo = 2 * (LOW**2 / 2 + 0.1 * math.log(2))
    assert losses["pseudo_label"].item() == pytest.approx(pseudo)
    assert losses["reliability"].item() == pytest.approx(0.5)
    assert losses["total"].item() == pytest.approx(2 * (foreground + 0.1 * background) + 0.1 + pseudo)


@pytest.mark.parametrize(
    ("options", "pseudo", "reliability"),
    [
        ({"bounded": False}, 2 * LOW**2, 1.0),  # u = 0
        ({"labels": "soft"}, 2 * 0.1 * math.log(2), 0.5),  # the teacher's attention is the student's
        ({"threshold": 0.9}, (LOW**2 + HIGH**2) / 2 + 0.2 * math.log(2), 0.5),
        ({"labels": "mean"}, LOW**2 + 0.2 * math.log(2), 0.5),  # above the mean of a half
        ({"regularizer": 1.0}, LOW**2 + 2 * math.log(2), 0.5),
    ],
)
def test_pseudo_label_losses_by_hand(options: dict[str, Any], pseudo: float, reliability: float) -> None:
    losses = small(**options).losses(BATCH)
    assert losses["pseudo_label"].item() == pytest.approx(pseudo, abs=1e-6)
    assert losses["reliability"].item() == pytest.approx(reliability)


def test_top_k_pooling_by_hand() -> None:
    losses = small(pooling="top_k").losses(BATCH)
    # k = 1: of a (0, 2) and of a (0, -2), and of these by 1 - a, the highest
    assert losses["foreground"].item() == pytest.approx(-2 * log_softmax(2 * HIGH, 0.0))
    assert losses["background"].item() == pytest.approx(-2 * log_softmax(0.0, 2 * LOW))


def test_each_stream_learns_the_labels_of_the_other_ones_teacher() -> None:
    features = torch.tensor([[[4.0, 0.0]]])  # RGB sees an action, flow none
    losses = small().losses(Batch(features, BATCH.labels, ("v",)))
    sees, sees_not = 1 / (1 + math.exp(-3)), LOW
    wrong = (sees - 0) ** 2 + (sees_not - 1) ** 2
    assert losses["pseudo_label"].item() == pytest.approx(wrong / 2 + 0.2 * math.log(2))


def test_the_branch_learns_where_the_streams_disagree() -> None:
    """RGB sees two kinds of actions, flow one of them: the labels of the other kind lose their weight in RGB."""
    torch.manual_seed(0)
    model = Ugct(UgctOptions(streams=(4, 4), labels="threshold"), 8, 1)
    features = torch.rand(4, 30, 8) / 4
    features[:, :10] += 1.0
    features[:, 10:20, :2] += 2.0
    with torch.no_grad():
        for network in model.networks:
            for parameter in network.parameters():
                parameter.zero_()
            network.embedding[0].weight[..., 1] = torch.eye(4)
            network.attention.weight.fill_(4.0)  # of a sum of 0.5 and of 4.5
            network.attention.bias.fill_(-10.0)
    model.end_step()
    batch = Batch(features, torch.ones(4, 1), tuple("abcd"))
    optimizer = torch.optim.Adam(model.uncertainty.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        model.losses(batch)["pseudo_label"].backward()
        optimizer.step()
    embedded, attention = model.networks[0](features[..., :4])
    assert (attention[:, :20] > 0.9).all()
    weight = (-model.uncertain(model.uncertainty[0], embedded)).exp()
    both_see, rgb_alone_sees, neither_sees = (part.mean() for part in weight.split(10, dim=1))
    # the best weights are 1, lambda / 1 and 1
    assert rgb_alone_sees < 0.3
    assert min(both_see, neither_sees) > 0.7


def test_teachers_average_all_steps_and_later_decay() -> None:
    model = small(decay=0.75)
    found = []
    for value in (1.0, 4.0, 6.0, 6.0):
        with torch.no_grad():
            for network in model.networks:
                network.attention.bias.fill_(value)
        model.end_step()
        found.append([teacher.network.attention.bias.item() for teacher in model.teachers])
    # of -1 (the step in `small`), 1, 4 and 6, then 3/4 of that and 1/4 of 6
    expected = [0.0, 4 / 3, 2.5, 0.75 * 2.5 + 1.5]
    np.testing.assert_allclose(found, np.transpose([expected, expected]), rtol=1e-6)


def test_the_weight_of_labels_rises_in_the_first_quarter() -> None:
    model = small()
    totals = {}
    for epoch in (0, 5, 10, 99):
        model.start_epoch(epoch, 40)
        losses = model.losses(BATCH)
        rest = losses["foreground"] + 0.1 * losses["background"] + 0.1 * losses["sparsity"]
        totals[epoch] = ((losses["total"] - rest) / losses["pseudo_label"]).item()
    assert totals == pytest.approx({0: math.exp(-5), 5: math.exp(-1.25), 10: 1.0, 99: 1.0}, abs=1e-5)
    assert risen(0, 0.0) == 1.0


def test_scores_by_hand() -> None:
    scores = small().score(BATCH.features[0])
    assert scores.signals["attention"].tolist() == pytest.approx([LOW, HIGH])
    action = 1 / (1 + math.exp(-4))  # softmax of (2, -2)
    torch.testing.assert_close(scores.signals["cas"], torch.tensor([[LOW / 2], [HIGH * action]]))
    assert scores.video_scores.item() == pytest.approx(math.exp(log_softmax(2 * HIGH, -2 * HIGH)))


def test_scores_are_means_over_streams_of_students_or_of_teachers() -> None:
    model, teaching = small(), small(scored="teacher")
    for one in (model, teaching):
        with torch.no_grad():
            one.networks[1].attention.bias.fill_(-50.0)
    assert model.score(BATCH.features[0]).signals["attention"].tolist() == pytest.approx([LOW / 2, HIGH / 2])
    assert teaching.score(BATCH.features[0]).signals["attention"].tolist() == pytest.approx([LOW, HIGH])
    assert "scored" in Ugct.SCORING_OPTIONS
    restored = Ugct(teaching.spec, 2, 1).eval()
    restored.load_state_dict(teaching.export_state(), strict=False)
    again = restored.score(BATCH.features[0]).signals["attention"]
    assert again.tolist() == pytest.approx([LOW, HIGH])


def test_the_branch_of_the_uncertainty_is_not_stored() -> None:
    assert {name.split(".")[0] for name in small().export_state()} == {"networks", "teachers", "steps"}


def test_detections_by_hand() -> None:
    spec = LOCALIZER.model_copy(update={"upsampling": 1})
    attention = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    cas = (attention * 0.8 + 0.1)[:, None]
    scores = SnippetScores("v", {"attention": attention, "cas": cas}, np.array([0.5]), 1.0)
    found = localize([scores], spec, ("a",))
    assert (found.start.tolist(), found.end.tolist()) == ([4.0], [8.0])
    assert found.score.tolist() == pytest.approx([0.9 - 0.1 + 0.2 * 0.5])


@pytest.mark.parametrize("options", [{}, {"pooling": "top_k", "ratio": 4}, {"bounded": False, "labels": "mean"}])
def test_gradients(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Ugct(UgctOptions(streams=(8, 8), **options), 16, 4).double().eval()
    given = example(2, length=9, dtype=torch.float64)

    def total(features: Tensor) -> Tensor:
        return model.losses(Batch(features, given.labels, given.videos))["total"]

    assert torch.autograd.gradcheck(total, given.features.clone().requires_grad_())


def test_gradient_of_the_regression() -> None:
    attention, uncertainty = (torch.rand(2, 5, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    labels = torch.randint(0, 2, (2, 5, 1)).double()
    assert torch.autograd.gradcheck(lambda a, u: uncertain_regression(a, labels, u, 0.1), (attention, uncertainty))
