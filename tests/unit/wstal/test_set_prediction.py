"""Matching against all permutations, and set losses worked by hand."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from wstal.losses.set_prediction import (
    Instances,
    MatchCosts,
    focal_loss,
    match_instances,
    overlap_loss,
    segment_iou,
    set_losses,
)

COSTS = MatchCosts(classification=6.0, segment=5.0, iou=2.0)


def random_windows(seed: int) -> tuple[torch.Tensor, torch.Tensor, list[Instances]]:
    torch.manual_seed(seed)
    logits, segments = torch.randn(2, 5, 3), torch.rand(2, 5, 2)
    return logits, segments, [Instances(torch.randint(3, (n,)), torch.rand(n, 2)) for n in (3, 2)]


@pytest.mark.parametrize("seed", range(5))
def test_the_match_is_the_cheapest_of_all(seed: int) -> None:
    logits, segments, instances = random_windows(seed)
    for window, (query, instance) in enumerate(match_instances(logits, segments, instances, COSTS)):
        true = instances[window]

        def cost(chosen: tuple[int, ...], window: int = window, true: Instances = true) -> float:
            total = 0.0
            for which, place in enumerate(chosen):
                p = logits[window, place, true.labels[which]].sigmoid().item()
                focal = 0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p)
                distance = (segments[window, place] - true.segments[which]).abs().sum().item()
                iou = segment_iou(segments[window, place], true.segments[which]).item()
                total += 6 * focal + 5 * distance - 2 * iou
            return total

        found = dict(zip(instance.tolist(), query.tolist(), strict=True))
        best = min(permutations(range(5), len(true.labels)), key=cost)
        assert tuple(found[which] for which in range(len(true.labels))) == best
        assert query.tolist() == sorted(query.tolist())


def test_losses_by_hand() -> None:
    logits = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]])  # probabilities 3/4 and 1/2, 1/2 and 1/2
    segments = torch.tensor([[[0.5, 0.4], [0.1, 0.1]]])
    true = [Instances(torch.tensor([0]), torch.tensor([[0.6, 0.4]]))]
    found = set_losses(logits, segments, true, COSTS)
    right = 0.25 * 0.25**2 * -math.log(0.75)
    wrong = 3 * 0.75 * 0.5**2 * -math.log(0.5)
    assert found["classification"].item() == pytest.approx(right + wrong, rel=1e-6)
    assert found["segment"].item() == pytest.approx(0.1, rel=1e-6)
    assert found["iou"].item() == pytest.approx(1 - 0.3 / 0.5, rel=1e-6)


def test_losses_are_divided_by_the_instances_of_the_batch() -> None:
    logits, segments, instances = random_windows(7)
    both = set_losses(logits, segments, instances, COSTS)
    alone = [set_losses(logits[b : b + 1], segments[b : b + 1], instances[b : b + 1], COSTS) for b in range(2)]
    for name, value in both.items():
        assert value.item() == pytest.approx((3 * alone[0][name].item() + 2 * alone[1][name].item()) / 5, rel=1e-5)


def test_without_instances_only_the_classes_count() -> None:
    none = [Instances(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))]
    found = set_losses(torch.zeros(1, 2, 3), torch.rand(1, 2, 2), none, COSTS)
    assert found["classification"].item() == pytest.approx(6 * 0.75 * 0.25 * math.log(2), rel=1e-6)
    assert found["segment"].item() == found["iou"].item() == 0


def test_the_order_of_queries_and_of_instances_changes_nothing() -> None:
    logits, segments, instances = random_windows(3)
    order = torch.tensor([4, 1, 0, 3, 2])
    turned = [Instances(true.labels.flip(0), true.segments.flip(0)) for true in instances]
    found = set_losses(logits[:, order], segments[:, order], turned, COSTS)
    for name, value in set_losses(logits, segments, instances, COSTS).items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_gradients_equal_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return focal_loss(values.reshape(1, 2, 2), targets.reshape(1, 2, 2))

    assert torch.autograd.gradcheck(loss, (logits,))


def test_disjoint_and_equal_segments() -> None:
    one, far, touching = torch.tensor([0.2, 0.2]), torch.tensor([0.8, 0.1]), torch.tensor([0.4, 0.2])
    assert segment_iou(one, far).item() == segment_iou(one, touching).item() == 0
    assert segment_iou(one, one).item() == pytest.approx(1)


def test_predicted_overlaps_are_compared_with_the_batch_or_with_the_own_window() -> None:
    segment = torch.tensor([[0.5, 0.2]])
    none = Instances(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))
    true = [Instances(torch.tensor([3]), segment), none]
    predicted = segment.expand(2, 1, 2)  # the second window's query lies on the first window's instance
    found = [overlap_loss(torch.zeros(2, 1), predicted, true, whole).item() for whole in (True, False)]
    assert found == pytest.approx([1, 0.5])
    assert overlap_loss(torch.full((1, 1), 0.25), predicted[:1], [none], True).item() == 0.25
