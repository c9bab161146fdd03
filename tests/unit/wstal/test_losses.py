from __future__ import annotations

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from wstal.losses.attention import normalization_loss
from wstal.losses.mil import cross_entropy, normalized
from wstal.parts.pooling import top_k_count, top_k_features, top_k_mean


def test_labels_sum_to_one_and_no_label_stays_zero() -> None:
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert torch.equal(normalized(labels), expected)


def test_cross_entropy_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    expected = (-(0.5 * math.log(0.5) + 0.5 * math.log(0.25)) - math.log(0.8)) / 2
    assert cross_entropy(logits, labels).item() == pytest.approx(expected)


def test_normalization_loss_by_hand() -> None:
    # T = 17: two lowest .1, .2, two highest .8, .9
    attention = torch.full((1, 17, 1), 0.5)
    attention[0, [3, 5, 8, 9], 0] = torch.tensor([0.1, 0.9, 0.2, 0.8])
    assert normalization_loss(attention, ratio=8).item() == pytest.approx(0.15 - 0.85)
    assert normalization_loss(attention[:, :1], ratio=8).item() == 0


def test_wrong_shapes_are_found_by_the_annotations() -> None:
    with pytest.raises(TypeCheckError):
        cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize(("length", "ratio", "k"), [(750, 8, 93), (7, 8, 1), (1, 3, 1), (16, 8, 2), (15, 8, 1)])
def test_top_k_count(length: int, ratio: int, k: int) -> None:
    assert top_k_count(length, ratio) == k


def test_top_k_pooling_by_hand() -> None:
    values = torch.tensor([[[1.0, 8.0], [3.0, 0.0], [2.0, 4.0]]])
    assert torch.equal(top_k_mean(values, 2), torch.tensor([[2.5, 6.0]]))
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]]])
    pooled = top_k_features(features, torch.tensor([[0.2, 0.9, 0.5]]), 2)
    assert torch.equal(pooled, torch.tensor([[1.5, 2.0]]))
