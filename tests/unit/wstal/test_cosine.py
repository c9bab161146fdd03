"""Cosine classifiers: angles by hand, vectors of zeros, and how the class vectors start."""

from __future__ import annotations

import math

import pytest
import torch

from wstal.parts.cosine import ClassVectors, cosines, normalized, pool, unit
from wstal.parts.layers import xavier_linear


def test_unit_vectors_by_hand() -> None:
    torch.testing.assert_close(unit(torch.tensor([[3.0, 4.0], [0.0, -2.0]])), torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_a_vector_of_zeros_stays_and_has_a_finite_gradient() -> None:
    vectors = torch.zeros(2, 3, requires_grad=True)
    made = unit(vectors)
    made.sum().backward()
    assert torch.equal(made, torch.zeros(2, 3))
    assert vectors.grad.isfinite().all()


def test_cosines_are_the_formula_for_one_set_and_for_a_set_a_video() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    sets = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    one, own = cosines(features, sets[0]), cosines(features, sets)
    assert one.shape == own.shape == (2, 5, 4)
    for video in range(2):
        for row in range(5):
            for number in range(4):
                for made, vector in ((one, sets[0, number]), (own, sets[video, number])):
                    feature = features[video, row].tolist()
                    dot = sum(a * b for a, b in zip(feature, vector.tolist(), strict=True))
                    lengths = math.hypot(*feature) * math.hypot(*vector.tolist())
                    assert made[video, row, number].item() == pytest.approx(dot / lengths)


def test_pooling_by_normalised_weights_is_the_weighted_mean() -> None:
    features = torch.tensor([[[1.0, 10.0], [3.0, 20.0]]])
    weights = torch.tensor([[[1.0, 0.0], [3.0, 5.0]]])
    # (1 * [1, 10] + 3 * [3, 20]) / 4, and the second row alone
    expected = torch.tensor([[[2.5, 17.5], [3.0, 20.0]]])
    torch.testing.assert_close(pool(features, normalized(weights)), expected)
    # 4 / (4 + 1) of it
    torch.testing.assert_close(pool(features, normalized(weights, epsilon=1.0))[0, 0], 0.8 * expected[0, 0])


def test_weights_of_zeros_stay_zeros() -> None:
    assert torch.equal(normalized(torch.zeros(1, 3, 2)), torch.zeros(1, 3, 2))


def test_foreground_starts_as_the_opposite_of_background_and_is_free() -> None:
    vectors = ClassVectors(dim=6, num_classes=4)
    assert vectors.classes.shape == (5, 6)
    assert torch.equal(vectors.foreground, -vectors.classes[-1:])
    with torch.no_grad():
        vectors.classes.zero_()
    assert vectors.foreground.abs().sum() > 0
    assert {name for name, _ in vectors.named_parameters()} == {"classes", "foreground"}


def test_vectors_and_layers_start_xavier_uniform() -> None:
    torch.manual_seed(0)
    layer = xavier_linear(300, 100)
    assert torch.equal(layer.bias, torch.zeros(100))
    for weights in (layer.weight, ClassVectors(dim=300, num_classes=99).classes):
        limit = math.sqrt(6 / (300 + 100))
        assert weights.abs().max().item() == pytest.approx(limit, rel=1e-3)
        assert weights.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.02)
