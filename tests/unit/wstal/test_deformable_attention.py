"""Deformable attention against numpy's interpolation, by finite differences, and where its queries look at first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wstal.parts.deformable_attention import DeformableAttention, sample_points


def test_points_are_interpolated_as_numpy_does() -> None:
    torch.manual_seed(0)
    values = torch.randn(2, 3, 7, 4, dtype=torch.float64)
    location = torch.rand(2, 3, 5, 6, dtype=torch.float64) * 1.6 - 0.3  # also outside
    weight = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    found = sample_points(values, location, weight)
    rows = np.arange(-1, 8)  # a row of zeros before and after
    for batch, head, query, column in np.ndindex(2, 3, 5, 4):
        line = np.pad(values[batch, head, :, column].numpy(), 1)
        read = np.interp(location[batch, head, query].numpy() * 7 - 0.5, rows, line)
        expected = (weight[batch, head, query].numpy() * read).sum()
        assert found[batch, head, query, column].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_gradients_equal_finite_differences() -> None:
    torch.manual_seed(1)
    values = torch.randn(1, 2, 5, 3, dtype=torch.float64, requires_grad=True)
    location = (torch.rand(1, 2, 4, 3, dtype=torch.float64) * 1.2 - 0.1).requires_grad_()
    weight = torch.rand(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sample_points, (values, location, weight), eps=1e-7)


def attention() -> DeformableAttention:
    """With the sequence as it is: values and output pass it on."""
    made = DeformableAttention(width=8, heads=8, points=4)
    for layer in (made.values, made.output):
        torch.nn.init.eye_(layer.weight)
    return made


def test_initially_heads_look_before_and_after_the_reference_or_at_it() -> None:
    sequence = torch.arange(20.0)[None, :, None].expand(1, 20, 8)
    row = 9
    with torch.no_grad():
        read = attention()(torch.zeros(1, 1, 8), torch.tensor([[[(row + 0.5) / 20]]]), sequence)
    # a column a head: points 1 to 4 rows after, at the row, before, at it
    assert read[0, 0].tolist() == pytest.approx([11.5, 9, 6.5, 9] * 2, abs=1e-4)


def test_a_segment_is_divided_by_the_points() -> None:
    sequence = torch.arange(40.0)[None, :, None].expand(1, 40, 8)
    reference = torch.tensor([[[0.5, 0.2]]])  # rows 16 to 24, an eighth of which is a row
    with torch.no_grad():
        read = attention()(torch.zeros(1, 1, 8), reference, sequence)
    middle = 0.5 * 40 - 0.5
    assert read[0, 0, 0].item() == pytest.approx(middle + 2.5, abs=1e-4)


def test_padding_is_read_as_zeros() -> None:
    torch.manual_seed(2)
    layer = DeformableAttention(width=8, heads=2, points=4)
    sequence, query, reference = torch.randn(1, 6, 8), torch.randn(1, 3, 8), torch.full((1, 3, 1), 0.9)
    padded = torch.tensor([[False] * 4 + [True] * 2])
    found = layer(query, reference, sequence, padded)
    other = torch.cat([sequence[:, :4], torch.randn(1, 2, 8)], dim=1)
    assert torch.equal(found, layer(query, reference, other, padded))
    assert not torch.allclose(found, layer(query, reference, other))
