"""Targets, losses and sampling of boundary matching beside plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from wstal.boundaries import boundary_candidates, covered, iou_map, pairwise_iou, regions, valid_cells
from wstal.losses.boundary_matching import balanced_cross_entropy, iou_regression, sampled_weights, uniform_draws
from wstal.parts.cell_sampling import SparseSum, folded, matching_samples

INSTANCES = torch.tensor([[1.2, 4.7], [6.0, 6.4]], dtype=torch.float64)


def test_the_map_is_the_best_iou_of_each_cell() -> None:
    found = iou_map(INSTANCES, rows=8, durations=5)
    for duration in range(5):
        for start in range(8):
            low, high = start, start + duration + 1
            best = 0.0
            for first, last in INSTANCES.tolist():
                shared = max(0.0, min(high, last) - max(low, first))
                best = max(best, shared / (high - low + last - first - shared))
            assert found[duration, start].item() == pytest.approx(best if high <= 8 else 0)
    assert iou_map(INSTANCES[:0], 4, 2).tolist() == [[0] * 4] * 2


def test_rows_near_a_boundary_are_covered() -> None:
    start, _ = regions(INSTANCES[:1], 1.5)
    assert covered(start, 5, shift=-0.5).tolist() == pytest.approx([0.8, 1, 1, 0.2, 0])
    assert covered(INSTANCES[:0], 3).tolist() == [0, 0, 0]


def test_candidates_of_several_curves_are_those_of_each() -> None:
    curves = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(boundary_candidates(curves), torch.stack([boundary_candidates(one) for one in curves]))
    values = curves[0].tolist()
    for row, found in enumerate(boundary_candidates(curves[0]).tolist()):
        edge = row in (0, 19)
        peak = not edge and values[row] > values[row - 1] and values[row] > values[row + 1]
        assert found == (edge or peak or values[row] > 0.5 * max(values))


def test_pairs_without_a_length_have_no_iou() -> None:
    assert pairwise_iou(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [[0]]


def test_positives_weigh_as_much_as_negatives() -> None:
    p, positive = torch.tensor([0.9, 0.2, 0.3, 0.6]), torch.tensor([True, False, False, True])
    mean = [(math.log(0.9) + math.log(0.6)) / 2, (math.log(0.8) + math.log(0.7)) / 2]
    assert balanced_cross_entropy(p, positive, epsilon=0.0).item() == pytest.approx(-sum(mean) / 2)
    valid = torch.tensor([True, True, False, False])
    expected = -(math.log(0.9) + math.log(0.8)) / 2
    assert balanced_cross_entropy(p, positive, valid, epsilon=0.0).item() == pytest.approx(expected)
    none = torch.zeros(4, dtype=torch.bool)
    assert balanced_cross_entropy(p, none, none).item() == 0


def test_extra_counts_lower_both_halves() -> None:
    p, positive = torch.tensor([0.5, 0.5]), torch.tensor([True, False])
    assert balanced_cross_entropy(p, positive, extra=10.0, epsilon=0.0).item() == pytest.approx(math.log(2) / 11)


def test_drawn_weights_have_the_expectation_as_their_mean() -> None:
    target = torch.tensor([0.9] * 3 + [0.5] * 10 + [0.1] * 40)
    high, middle, low = target > 0.7, (target > 0.3) & (target <= 0.7), target <= 0.3
    expected = sampled_weights(high, [middle, low], None)
    torch.manual_seed(0)
    drawn = torch.stack([sampled_weights(high, [middle, low], uniform_draws(target, True)) for _ in range(3000)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(dim=0), expected, rtol=0, atol=0.04)
    assert expected[3].item() == pytest.approx(0.3)
    assert sampled_weights(~high, [high], None)[0].item() == 1  # no more than all


def test_regression_sees_no_cell_without_overlap_or_outside() -> None:
    target, valid = torch.tensor([0.8, 0.0, 0.2]), torch.tensor([True, True, False])
    assert iou_regression(torch.zeros(3), target, valid, None).item() == pytest.approx(0.32)
    assert iou_regression(torch.zeros(3), target, valid, None, zeros=True).item() == pytest.approx(0.16)


@pytest.mark.parametrize("by_end", [False, True])
def test_a_layer_before_the_sampling_is_the_layer_after_it(by_end: bool) -> None:
    torch.manual_seed(0)
    rows, durations, points, channels, out = 12, 12 if by_end else 5, 4, 3, 6
    sampling = matching_samples(rows, durations, points, per_point=2, by_end=by_end).double()
    features = torch.randn(2, channels, rows, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(out, channels, points, dtype=torch.float64, requires_grad=True)
    whole = sampling(torch.eye(points * rows, dtype=torch.float64)).view(-1, points, rows)
    expected = torch.einsum("bct,kpt,fcp->bfk", features, whole, weight)
    found = folded(sampling, features, weight)
    torch.testing.assert_close(found, expected)
    again = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad(found, (features, weight), again),
        torch.autograd.grad(expected, (features, weight), again),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_cells_past_the_window_sample_nothing() -> None:
    found = matching_samples(6, 4, points=4)(torch.ones(24, 1)).view(4, 6)
    assert ((found > 0) == valid_cells(6, 4)).all()


def test_constants_are_no_part_of_the_state() -> None:
    sampling = SparseSum(np.array([0]), np.array([1]), np.array([0.5]), cells=2, sources=3)
    assert sampling.state_dict() == {}
