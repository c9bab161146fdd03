"""SUB-ACT: every formula by hand or against loops, gradients, and what the paper claims of its losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from baselines.subact import (
    BalanceTo,
    SubAct,
    SubActNetwork,
    SubActNetworkOptions,
    SubActOptions,
    background_weights,
    balance_loss,
    entropy,
    log_classes,
    relation_loss,
    representation_loss,
)
from wstal.types import Batch, Video

SEEDS = st.integers(0, 1000)


def network(classes: int = 2, **options: Any) -> SubActNetwork:
    torch.manual_seed(0)
    return SubActNetwork(SubActNetworkOptions(attention=4, sub_actions=2, **options), 6, classes).eval()


def draw(seed: int, *shape: int) -> torch.Tensor:
    """A distribution in each row."""
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).softmax(dim=-1)


# --- assignment -------------------------------------------------------------------------------------------------------


def test_graph_and_assignment_by_loops() -> None:
    model = network()
    with torch.no_grad():
        graph, log_assignment = model.graph_and_assignment()
        vectors = model.prototypes.double().numpy()
        projected = model.convolution(model.prototypes).double().numpy()
    assert graph.shape == (6, 6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.exp(10 * unit @ unit.T)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(graph, expected, rtol=1e-5)
    logits = np.exp(expected @ projected)
    np.testing.assert_allclose(log_assignment.exp(), logits / logits.sum(axis=1, keepdims=True), rtol=1e-5)


def test_sub_actions_of_every_class_and_of_background() -> None:
    for dataset, each in (("thumos14", 4), ("activitynet13", 2)):
        model = SubAct(SubAct.recipe(dataset).method, 6, 3)
        assert model.networks[0].prototypes.shape == (each * 4, 6)


def test_classes_of_sub_actions_by_hand() -> None:
    """Shares 1/2, 1/4, 1/4 of sub-actions that belong to class 0, half to each, to background."""
    shares = torch.tensor([[0.5, 0.25, 0.25]]).log()
    assignment = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]).log()
    torch.testing.assert_close(log_classes(shares, assignment).exp(), torch.tensor([[0.625, 0.125, 0.25]]))


@given(SEEDS)
def test_classes_of_sub_actions_are_a_distribution(seed: int) -> None:
    shares, assignment = draw(seed, 2, 6), draw(seed + 1, 6, 4)
    made = log_classes(shares.log(), assignment.log()).exp()
    torch.testing.assert_close(made, shares @ assignment)
    torch.testing.assert_close(made.sum(dim=1), torch.ones(2, dtype=torch.float64))


# --- attention --------------------------------------------------------------------------------------------------------


def test_background_weights_by_hand() -> None:
    weights = background_weights(torch.tensor([[[0.5], [0.25], [0.25]]]))
    assert weights.flatten().tolist() == [0.25, 0.375, 0.375]
    assert background_weights(torch.ones(1, 1, 1)).item() == 0


@given(SEEDS, st.integers(2, 9))
def test_background_weights_are_the_complement(seed: int, length: int) -> None:
    """They sum to 1 over time, and the most attended snippet has the least."""
    attention = draw(seed, 1, length).unsqueeze(2)
    weights = background_weights(attention)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 1, dtype=torch.float64))
    assert torch.equal(weights.flatten().argsort(), attention.flatten().argsort(descending=True))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_relation_by_hand() -> None:
    """Two sub-actions of class 0, one of class 1; S^T A S has rows (1.5, 0.5) and (0.5, 0.5)."""
    graph = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]])
    assignment = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = relation_loss(graph, assignment, torch.eye(2))
    assert loss.item() == pytest.approx((0.25**2 * 2 + 0.5**2 * 2) / 4)
    actions = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    assert relation_loss(graph, assignment, actions).item() == 0


def test_balance_by_hand() -> None:
    shares = torch.tensor([[0.5, 0.3, 0.2]]).log()
    assignment = torch.tensor([[0.6, 0.0, 0.4], [0.2, 0.4, 0.4], [0.0, 0.5, 0.5]]).log()
    q = np.array([0.3, 0.06, 0.0]) / 0.36
    for to, u in (("even", np.full(3, 1 / 3)), ("assignment", np.array([0.75, 0.25, 0.0]))):
        expected = sum(a * math.log(a / b) for a, b in zip(q[:2], u[:2], strict=True))
        labels = torch.tensor([[1.0, 0.0]])
        # a zero of the assignment as a very small one
        loss = balance_loss(shares, assignment.clamp(min=-60), labels, to)
        assert loss.item() == pytest.approx(expected, rel=1e-5)


@given(SEEDS, st.sampled_from(["even", "assignment"]))
def test_balance_is_least_where_shares_are_the_target(seed: int, to: BalanceTo) -> None:
    shares, assignment = draw(seed, 2, 6), draw(seed + 1, 6, 3)
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert balance_loss(shares.log(), assignment.log(), labels, to) >= 0
    best = 1 / assignment[:, 0] if to == "even" else torch.ones(6, dtype=torch.float64)
    best = (best / best.sum()).expand(2, 6)
    assert balance_loss(best.log(), assignment.log(), labels, to).item() == pytest.approx(0, abs=1e-9)


def test_representation_by_hand() -> None:
    """Two snippets, each of one sub-action of its own, which belong to one class: no entropy but the mean's."""
    assignment = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    shares, attention = torch.eye(2).unsqueeze(0), torch.full((1, 2, 1), 0.5)
    assert representation_loss(shares, assignment, attention).item() == pytest.approx(-math.log(2))
    # all snippets of one sub-action: they are not diverse
    assert representation_loss(shares[:, [0, 0]], assignment, attention).item() == 0
    # one even snippet: of two sub-actions, and with an even assignment of two classes
    even = torch.full((1, 1, 2), 0.5)
    assert representation_loss(even, torch.full((2, 2), 0.5), torch.ones(1, 1, 1)).item() == pytest.approx(math.log(2))


@given(SEEDS)
def test_representation_is_least_for_sure_and_diverse_sub_actions(seed: int) -> None:
    shares, assignment, attention = draw(seed, 2, 5, 4), draw(seed + 1, 4, 3), draw(seed + 2, 2, 5).unsqueeze(2)
    loss = representation_loss(shares, assignment, attention)
    assert -math.log(4) <= loss <= math.log(4) + math.log(3)
    pooled = (attention * shares).sum(dim=1).mean(dim=0)
    snippets = sum(
        attention[v, t, 0] * (scipy_entropy(shares[v, t]) + scipy_entropy(shares[v, t] @ assignment)) / 2
        for v in range(2)
        for t in range(5)
    )
    assert loss.item() == pytest.approx(float(snippets) - scipy_entropy(pooled))


def test_entropy_of_a_sure_distribution_is_zero() -> None:
    assert entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).tolist() == pytest.approx([0, math.log(2)])


def test_gradients() -> None:
    torch.manual_seed(0)
    shares, assignment, attention, graph = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 4), (4, 3), (2, 5, 1), (4, 4))
    )
    snippets = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    actions = torch.eye(3, dtype=torch.float64)
    check = torch.autograd.gradcheck
    assert check(lambda d, s: log_classes(d.log_softmax(1), s.log_softmax(1)), (shares, assignment))
    assert check(lambda a, s: relation_loss(a.softmax(1), s.softmax(1), actions), (graph, assignment))
    for to in ("even", "assignment"):
        assert check(
            lambda d, s, to=to: balance_loss(d.log_softmax(1), s.log_softmax(1), labels, to), (shares, assignment)
        )
    assert check(
        lambda d, s, w: representation_loss(d.softmax(2), s.softmax(1), w.softmax(1)), (snippets, assignment, attention)
    )


@pytest.mark.parametrize("matching", ["cosine", "distance"])
def test_gradient_of_the_whole_loss(matching: str) -> None:
    model = network(matching=matching).double()
    labels = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    features = torch.rand(2, 3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.losses(Batch(x, labels, ("a", "b")))["total"], (features,))


def test_the_models_losses_are_the_formulas() -> None:
    model = network(background=0.2, relation=0.3, balance=0.4, representation=0.5)
    features, labels = torch.rand(2, 7, 6), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    losses = model.losses(Batch(features, labels, ("a", "b")))
    with torch.no_grad():
        matches, attention = model.matches_and_attention(features)
        graph, log_assignment = model.graph_and_assignment()
    assignment = log_assignment.exp()
    shares = (attention * matches).sum(dim=1).softmax(dim=1)
    other = ((1 - attention) / 6 * matches).sum(dim=1).softmax(dim=1)
    classes, nothing = shares @ assignment, other @ assignment
    foreground = -(classes[0, :2].log().mean() + classes[1, 1].log()) / 2
    background = -nothing[:, 2].log().mean()
    expected = {
        "foreground": foreground,
        "background": background,
        "relation": relation_loss(graph, assignment, torch.eye(3)),
        "balance": balance_loss(shares.log(), log_assignment, labels, "even"),
        "representation": representation_loss(matches.softmax(dim=-1), assignment, attention),
    }
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    weights = dict(zip(expected, (1, 0.2, 0.3, 0.4, 0.5), strict=True))
    torch.testing.assert_close(losses["total"], sum(weights[name] * value for name, value in expected.items()))


# --- training and scores ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 1), min_size=1).map(lambda one: tuple(sorted(one))), min_size=1, max_size=5))
def test_the_graph_of_actions_comes_from_the_videos_labels(labels: list[tuple[int, ...]]) -> None:
    model = SubAct(SubActOptions(streams=(4, 2)), 6, 2)
    features = np.zeros((2, 6), dtype=np.float32)
    model.start_epoch(0, 1, [Video(f"v{i}", features, one, 0.64) for i, one in enumerate(labels)])
    both = sum(one == (0, 1) for one in labels)
    for one in model.networks:
        for label in range(2):
            own = 1 + sum(label in video for video in labels)
            assert one.actions[label, 1 - label].item() == pytest.approx(both / (own + both))
        assert one.actions[2].tolist() == [0, 0, 1]


def test_scores_by_hand() -> None:
    model = network()
    features = torch.rand(5, 6)
    with torch.no_grad():
        scores = model.score(features)
        matches, attention = model.matches_and_attention(features.unsqueeze(0))
        assignment = model.graph_and_assignment()[1].exp()
    torch.testing.assert_close(scores.signals["cas"], (matches[0].softmax(dim=1) @ assignment)[:, :2])
    torch.testing.assert_close(scores.signals["attention"], attention[0, :, 0] / attention.max())
    pooled = (attention[0] * matches[0]).sum(dim=0).softmax(dim=0)
    torch.testing.assert_close(scores.video_scores, (pooled @ assignment)[:2])
