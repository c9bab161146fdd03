"""Layers of the deformable transformer: positions against a formula, residual parts, and what padding may change."""

from __future__ import annotations

import math

import pytest
import torch

from wstal.parts.deformable_transformer import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    LayerSizes,
    logit,
    perceptron,
    position_embedding,
)

SIZES = LayerSizes(width=8, heads=2, points=4, hidden=16, dropout=0.1)


def test_positions_by_formula() -> None:
    padded = torch.tensor([[False] * 5, [False, False, False, True, True]])
    found = position_embedding(padded, 6)
    for window, valid in enumerate((5, 3)):
        for row in range(5):
            angle = 2 * math.pi * min(row + 1, valid) / valid
            expected = []
            for pair in range(3):
                phase = angle / 10_000 ** (2 * pair / 6)
                expected += [math.sin(phase), math.cos(phase)]
            assert found[window, row].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_logit_inverts_the_sigmoid() -> None:
    values = torch.linspace(-9, 9, 19, dtype=torch.float64)
    torch.testing.assert_close(logit(values.sigmoid()), values)
    assert logit(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([math.log(1e-5), -math.log(1e-5)], rel=1e-5)


def test_a_feed_forward_part_is_added_to_its_input() -> None:
    part = FeedForward(8, 16, 0.0)
    rows = torch.randn(3, 8)
    expected = rows + (rows @ part.into.weight.T + part.into.bias).relu() @ part.out.weight.T + part.out.bias
    torch.testing.assert_close(part(rows), expected)
    assert len(perceptron(8, 4, 2)) == 5


def test_an_encoded_row_does_not_depend_on_padding() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(SIZES).eval()
    torch.nn.init.normal_(layer.attention.offsets.weight)
    rows, position = torch.randn(1, 7, 8), torch.randn(1, 7, 8)
    padded = torch.tensor([[False] * 5 + [True] * 2])
    other = torch.cat([rows[:, :5], torch.randn(1, 2, 8)], dim=1)
    torch.testing.assert_close(layer(rows, position, padded)[:, :5], layer(other, position, padded)[:, :5])


def test_decoded_queries_follow_their_order() -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(SIZES).eval()
    queries, place, memory = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.randn(2, 9, 8)
    reference = torch.rand(2, 5, 2)
    order = torch.tensor([3, 0, 4, 1, 2])
    found = layer(queries, place, reference, memory, None)
    turned = layer(queries[:, order], place[:, order], reference[:, order], memory, None)
    torch.testing.assert_close(turned, found[:, order], rtol=1e-4, atol=1e-5)


def test_dropout_is_drawn_in_training_alone() -> None:
    layer = EncoderLayer(SIZES)
    rows, position = torch.randn(1, 7, 8), torch.randn(1, 7, 8)
    assert not torch.equal(layer(rows, position, None), layer(rows, position, None))
    layer.eval()
    assert torch.equal(layer(rows, position, None), layer(rows, position, None))
