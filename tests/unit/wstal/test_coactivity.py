"""The co-activity loss against its formula written out, and what must not move it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wstal.losses.coactivity import coactivity_loss

LENGTHS = (9, 6, 4, 9, 1, 7, 9, 9)
LABELS = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]]).float()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, logits with a column of background, which rows are there; what is padding is not zero."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(8, 9, 5, generator=generator, dtype=torch.float64)
    logits = torch.randn(8, 9, 4, generator=generator, dtype=torch.float64) * 2
    present = torch.arange(9) < torch.tensor(LENGTHS).unsqueeze(1)
    return features, logits, present


def plain(features: np.ndarray, logits: np.ndarray, lengths: tuple[int, ...], pairs: int, margin: float) -> float:
    """One pair and class at a time."""

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        size = np.linalg.norm(one) * np.linalg.norm(other)
        return 1 - float(one @ other / size) if size else 1.0

    def parts(video: int, label: int) -> tuple[np.ndarray, np.ndarray]:
        rows = lengths[video]
        weights = np.exp(logits[video, :rows, label])
        weights = weights / weights.sum()
        return weights @ features[video, :rows], (1 - weights) @ features[video, :rows] / max(rows - 1, 1)

    costs = []
    for pair in range(pairs):
        for label in range(3):
            if LABELS[2 * pair, label] and LABELS[2 * pair + 1, label]:
                (high1, low1), (high2, low2) = parts(2 * pair, label), parts(2 * pair + 1, label)
                first = distance(high1, high2) - distance(high1, low2) + margin
                second = distance(high1, high2) - distance(high2, low1) + margin
                costs.append((max(first, 0) + max(second, 0)) / 2)
    return float(np.mean(costs))


@pytest.mark.parametrize("pairs", [1, 2, 3, 4])
@pytest.mark.parametrize("margin", [0.5, 0.02])
def test_formula(inputs, pairs: int, margin: float) -> None:
    features, logits, present = inputs
    loss = coactivity_loss(features, logits, LABELS, pairs, present, margin)
    assert loss.item() == pytest.approx(plain(features.numpy(), logits.numpy(), LENGTHS, pairs, margin), rel=1e-12)


def test_without_padding_every_row_counts(inputs) -> None:
    features, logits, _ = inputs
    loss = coactivity_loss(features, logits, LABELS, 3)
    assert loss.item() == pytest.approx(plain(features.numpy(), logits.numpy(), (9,) * 8, 3, 0.5), rel=1e-12)


def test_gradient(inputs) -> None:
    features, logits, present = inputs
    assert torch.autograd.gradcheck(
        lambda f, x: coactivity_loss(f, x, LABELS, 3, present),
        (features.requires_grad_(), logits.requires_grad_()),
    )


def test_a_batch_of_fewer_videos_has_fewer_pairs(inputs) -> None:
    features, logits, present = inputs
    three = coactivity_loss(features[:3], logits[:3], LABELS[:3], 3, present[:3])
    assert torch.equal(three, coactivity_loss(features, logits, LABELS, 1, present))


@pytest.mark.parametrize(("pairs", "rows"), [(0, 8), (3, 1), (1, 8)])
def test_nothing_shared_costs_nothing(inputs, pairs: int, rows: int) -> None:
    features, logits, present = inputs
    features.requires_grad_()
    labels = torch.eye(3).repeat(3, 1)[:rows]
    loss = coactivity_loss(features[:rows], logits[:rows], labels, pairs, present[:rows])
    assert loss.item() == 0
    loss.backward()
    assert not features.grad.any()


def test_one_row_has_no_rest_and_finite_gradients() -> None:
    features, logits = torch.rand(2, 1, 4, requires_grad=True), torch.rand(2, 1, 2, requires_grad=True)
    loss = coactivity_loss(features, logits, torch.ones(2, 2), 1)
    # no rest is like nothing: both hinges are d(H1, H2) - 1 + 0.5, and H is the row itself
    cosine = torch.cosine_similarity(features[0, 0], features[1, 0], dim=0).item()
    assert loss.item() == pytest.approx(max(0.5 - cosine, 0), abs=1e-6)
    loss.backward()
    assert features.grad.isfinite().all()
    assert logits.grad.isfinite().all()
