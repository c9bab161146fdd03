"""RPN: every formula by hand or against loops, gradients, and what the paper claims of its prototypes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.facnet import FacNet
from baselines.rpn import (
    Rpn,
    RpnNetwork,
    RpnNetworkOptions,
    RpnOptions,
    Weighting,
    clustering_loss,
    pooled_distances,
    relative,
    similarity_weight,
)
from wstal.types import Batch, Video

LABELS = st.lists(st.sets(st.integers(0, 3), min_size=1, max_size=3).map(lambda one: tuple(sorted(one))), max_size=5)


def videos(labels: list[tuple[int, ...]]) -> list[Video]:
    return [Video(f"v{i}", np.zeros((2, 6), dtype=np.float32), one, 0.64) for i, one in enumerate(labels)]


def network(classes: int = 4, **options: Any) -> RpnNetwork:
    torch.manual_seed(0)
    return RpnNetwork(RpnNetworkOptions(hidden=5, attention=4, **options), 6, classes).eval()


# --- prototypes -------------------------------------------------------------------------------------------------------


def test_prototypes_are_two_graph_convolutions_of_one_hot_labels() -> None:
    model = network(neighbours=0.3)
    model.start_epoch(0, 1, videos([(0, 1), (1, 2), (1,), (1,), (3,)]))
    # counts plus identity are (2, 1, 0, 0), (1, 5, 1, 0), (0, 1, 2, 0) and (0, 0, 0, 2): a third is above the limit
    expected = np.array([[0.7, 0.3, 0, 0], [1 / 7, 5 / 7, 1 / 7, 0], [0, 0.3, 0.7, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(model.graph, expected, rtol=1e-6)
    (w1, b1), (w2, b2) = (
        (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in model.convolutions
    )
    hidden = expected @ (np.eye(4) @ w1 + b1)
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    np.testing.assert_allclose(model.prototypes().detach(), expected @ (hidden @ w2 + b2), rtol=1e-5, atol=1e-6)


@settings(deadline=None)
@given(LABELS)
def test_a_prototype_depends_on_the_classes_within_two_edges_alone(labels: list[tuple[int, ...]]) -> None:
    """What is relational about the prototypes: a class without a label in common has no part in another's."""
    model = network()
    model.start_epoch(0, 1, videos(labels))
    near = torch.eye(4, dtype=torch.bool)
    for video in labels:
        for one in video:
            near[one, list(video)] = True
    near = (near.float() @ near.float()) > 0
    before = model.prototypes().detach()
    for other in range(4):
        with torch.no_grad():
            model.convolutions[0].weight[:, other] += 1.0
            moved = (model.prototypes() - before).abs().amax(dim=1) > 1e-6
            model.convolutions[0].weight[:, other] -= 1.0
        assert torch.equal(moved, near[:, other])


@given(LABELS, st.permutations(range(5)))
def test_the_order_of_videos_leaves_the_graph(labels: list[tuple[int, ...]], order: list[int]) -> None:
    model, other = network(), network()
    model.start_epoch(0, 1, videos(labels))
    other.start_epoch(0, 1, videos([labels[i] for i in order if i < len(labels)]))
    assert torch.equal(model.graph, other.graph)


def test_the_graph_is_kept_with_the_weights_and_without_videos() -> None:
    model = network()
    model.start_epoch(0, 2, videos([(0, 1)]))
    resumed = network()
    resumed.load_state_dict(model.state_dict())
    resumed.start_epoch(1, 2)
    assert torch.equal(resumed.graph, model.graph)
    assert not torch.equal(model.graph, torch.eye(4))


def test_no_neighbours_are_independent_prototypes() -> None:
    model = network(neighbours=0.0)
    model.start_epoch(0, 1, videos([(0, 1, 2, 3)]))
    assert torch.equal(model.graph, torch.eye(4))


def test_all_streams_have_the_graph() -> None:
    model = Rpn(RpnOptions(streams=(4, 2), hidden=5), 6, 3)
    model.start_epoch(0, 1, videos([(0, 1)]))
    for one in model.networks:
        assert one.graph[0, 1] == pytest.approx(0.2)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_by_hand() -> None:
    """Two snippets with attention 1/4 and 3/4, two classes."""
    apart = torch.tensor([[[1.0, 5.0], [3.0, 1.0]]])
    pooled = pooled_distances(apart, torch.tensor([[[0.25], [0.75]]]))
    torch.testing.assert_close(pooled, torch.tensor([[2.5, 2.0]]))
    assert clustering_loss(pooled, torch.tensor([[1.0, 0.0]])).item() == 2.5
    assert clustering_loss(pooled, torch.tensor([[1.0, 1.0]])).item() == 2.25
    both = torch.cat([pooled, pooled])
    assert clustering_loss(both, torch.tensor([[0.0, 1.0], [0.0, 0.0]])).item() == 1.0


@pytest.mark.parametrize("matching", ["distance", "cosine"])
def test_the_models_losses_are_the_formulas(matching: str) -> None:
    model = network(matching=matching, scale=2.0, clustering=0.3)
    model.start_epoch(0, 1, videos([(0, 1), (2,)]))
    features, labels = torch.rand(2, 7, 6), torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    losses = model.losses(Batch(features, labels, ("a", "b")))
    embedded, prototypes = model.embedding(features).detach().numpy(), model.prototypes().detach().numpy()
    weights = model.attention(torch.from_numpy(embedded)).detach().numpy()
    action, clustering = [], []
    for video, own in enumerate(([0, 1], [2])):
        pooled = np.zeros(4)
        for row in range(7):
            for label in range(4):
                x, p = embedded[video, row], prototypes[label]
                cosine = x @ p / np.linalg.norm(x) / np.linalg.norm(p)
                apart = 2 * (1 - cosine) if matching == "cosine" else 2 * np.mean((x - p) ** 2)
                pooled[label] += weights[video, row, 0] * apart
        probability = np.exp(-pooled) / np.exp(-pooled).sum()
        action.append(-np.log(probability[own]).mean())
        clustering.append(pooled[own].mean())
    assert losses["action"].item() == pytest.approx(np.mean(action), rel=1e-4)
    assert losses["clustering"].item() == pytest.approx(np.mean(clustering), rel=1e-4)
    assert losses["total"].item() == pytest.approx(np.mean(action) + 0.3 * np.mean(clustering), rel=1e-4)


def test_gradients() -> None:
    torch.manual_seed(0)
    apart = torch.rand(2, 5, 3, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 5, 1, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda d, w: clustering_loss(pooled_distances(d, w.softmax(dim=1)), labels), (apart, logits)
    )


@pytest.mark.parametrize("matching", ["distance", "cosine"])
def test_gradient_of_the_whole_loss(matching: str) -> None:
    model = network(matching=matching).double()
    model.start_epoch(0, 1, videos([(0, 1), (2,)]))
    labels = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    features = torch.rand(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.losses(Batch(x, labels, ("a", "b")))["total"], (features,))


@given(st.integers(0, 1000), st.integers(0, 3), st.floats(0.05, 1.0))
def test_clustering_pulls_snippets_to_the_prototypes_of_their_class(seed: int, label: int, step: float) -> None:
    """A snippet that moves towards the prototype lowers the loss, by as much as it is attended to."""
    generator = torch.Generator().manual_seed(seed)
    prototypes, x = torch.randn(4, 6, generator=generator), torch.randn(1, 5, 6, generator=generator)
    weights = torch.rand(1, 5, 1, generator=generator).softmax(dim=1)
    labels = torch.eye(4)[[label]]

    def loss(features: torch.Tensor) -> float:
        apart = (features.unsqueeze(2) - prototypes).square().mean(dim=-1)
        return clustering_loss(pooled_distances(apart, weights), labels).item()

    before = loss(x)
    for row in range(5):
        nearer = x.clone()
        nearer[0, row] = torch.lerp(x[0, row], prototypes[label], step)
        gain = weights[0, row, 0] * (1 - (1 - step) ** 2) * (x[0, row] - prototypes[label]).square().mean()
        assert before - loss(nearer) == pytest.approx(gain.item(), abs=1e-5)
        assert gain > 0


# --- scores -----------------------------------------------------------------------------------------------------------

APART = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [5.0, 7.0]]])  # nearest: 1, 2, 5


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [("min_max", [1, 0.75, 0]), ("exponential", [math.exp(-1), math.exp(-2), math.exp(-5)]), ("none", [1, 1, 1])],
)
def test_weights_by_hand(weighting: Weighting, expected: list[float]) -> None:
    assert similarity_weight(APART, weighting).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("weighting", ["min_max", "exponential", "none"])
def test_scores_by_hand(weighting: Weighting) -> None:
    model = network(weighting=weighting)
    features = torch.rand(5, 6)
    with torch.no_grad():
        scores = model.score(features)
        apart, attention = model.distances_and_attention(features.unsqueeze(0))
    likely = (-apart[0]).exp() / (-apart[0]).exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(scores.signals["cas"], likely * similarity_weight(apart, weighting)[0])
    pooled = (-(attention[0] * apart[0]).sum(dim=0)).exp()
    torch.testing.assert_close(scores.video_scores, pooled / pooled.sum())
    assert scores.signals["attention"].amax() == 1
    torch.testing.assert_close(relative(attention)[0, :, 0], scores.signals["attention"])


@given(st.integers(0, 1000), st.integers(2, 9))
def test_weighting_suppresses_what_is_close_to_no_prototype(seed: int, length: int) -> None:
    apart = torch.rand(1, length, 3, generator=torch.Generator().manual_seed(seed))
    order = apart.amin(dim=2)[0].argsort()
    for weighting in ("min_max", "exponential"):
        weights = similarity_weight(apart, weighting)[0, :, 0]
        assert (weights[order].diff() <= 0).all()
        assert weights.min() >= 0
        assert weights.max() <= 1


def test_only_thresholds_differ_from_facnets_localizer() -> None:
    for dataset in ("thumos14", "activitynet13"):
        own, other = Rpn.recipe(dataset), FacNet.recipe(dataset)
        assert own.train == other.train
        different = {name for name, value in own.localizer if value != getattr(other.localizer, name)}
        assert different == {"sources"}
