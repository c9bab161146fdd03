"""Losses of a set of predicted segments: each instance is matched with one prediction, then all predictions are judged.

Segments are (centre, width) in fractions of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from wstal.tensors import Scalar

Logits = Float[Tensor, "batch queries actions"]
PredictedSegments = Float[Tensor, "batch queries 2"]
ALPHA, EPSILON = 0.25, 1e-8


class Instances(NamedTuple):
    """Instances of one window.

    Args:
        labels: `[N]` class indices.
        segments: `[N, 2]` centre and width.
    """

    labels: Int[Tensor, " instances"]
    segments: Float[Tensor, "instances 2"]


class MatchCosts(NamedTuple):
    """Weights of the costs that decide which query an instance is matched with.

    Args:
        classification: of the focal cost of the instance's class.
        segment: of the L1 distance of centre and width.
        iou: of the IoU, which lowers the cost.
    """

    classification: float
    segment: float
    iou: float


def segment_iou(segments: Float[Tensor, "*n 2"], others: Float[Tensor, "*m 2"]) -> Float[Tensor, "*nm"]:
    """Compute the IoU of segments, element by element with broadcasting.

    Args:
        segments: centres and widths.
        others: centres and widths of the other segments.

    Example:
        >>> segment_iou(torch.tensor([0.5, 0.5]), torch.tensor([0.75, 0.5])).item()
        0.3333333432674408
    """
    (start, end), (other_start, other_end) = edges(segments), edges(others)
    shared = (torch.minimum(end, other_end) - torch.maximum(start, other_start)).clamp(min=0)
    return shared / ((end - start) + (other_end - other_start) - shared)


def edges(segments: Float[Tensor, "*n 2"]) -> tuple[Tensor, Tensor]:
    """Return the starts and the ends of segments given as centre and width.

    Example:
        >>> [edge.item() for edge in edges(torch.tensor([0.5, 0.5]))]
        [0.25, 0.75]
    """
    centre, width = segments.unbind(dim=-1)
    return centre - width / 2, centre + width / 2


@torch.no_grad()
def match_instances(
    logits: Logits, segments: PredictedSegments, instances: Sequence[Instances], costs: MatchCosts
) -> list[tuple[Tensor, Tensor]]:
    """Return for each window which query is matched with which instance, at the lowest total cost.

    Args:
        logits: of the classes, without background.
        segments: predicted centre and width.
        instances: those of each window, no more than there are queries.
        costs: weights of their costs.

    Returns:
        Indices of the queries in ascending order, and of their instances.

    Example:
        >>> instances = [Instances(torch.tensor([0]), torch.tensor([[0.5, 0.2]]))]
        >>> near, far = torch.tensor([[0.4, 0.2], [0.1, 0.2]])
        >>> match_instances(torch.zeros(1, 2, 1), torch.stack([far, near])[None], instances, MatchCosts(6, 5, 2))
        [(tensor([1]), tensor([0]))]
    """
    probability = logits.sigmoid()
    positive = ALPHA * (1 - probability) ** 2 * -(probability + EPSILON).log()
    negative = (1 - ALPHA) * probability**2 * -(1 - probability + EPSILON).log()
    found = []
    for focal, predicted, true in zip(positive - negative, segments, instances, strict=True):
        cost = (
            costs.classification * focal[:, true.labels]
            + costs.segment * torch.cdist(predicted, true.segments, p=1)
            - costs.iou * segment_iou(predicted[:, None], true.segments)
        )
        pairs = np.stack(linear_sum_assignment(cost.cpu().numpy()))
        query, instance = torch.from_numpy(pairs).to(logits.device)
        found.append((query, instance))
    return found


def focal_loss(logits: Logits, targets: Logits) -> Scalar:
    """Compute the sum of the focal loss (Lin et al., 2017) over all entries.

    Args:
        logits: of the classes.
        targets: 0 or 1.

    Example:
        >>> round(focal_loss(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)).item(), 4)  # log(2) / 16
        0.0433
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    missing = torch.where(targets > 0, 1 - probability, probability)
    return (torch.where(targets > 0, ALPHA, 1 - ALPHA) * missing**2 * cross_entropy).sum()


def set_losses(
    logits: Logits, segments: PredictedSegments, instances: Sequence[Instances], costs: MatchCosts
) -> dict[str, Tensor]:
    """Compute the losses of one layer's predictions against the instances that they match, before weighting.

    All are divided by the number of instances, `segment` is the L1 distance, `iou` the sum of 1 - IoU.

    Args:
        logits: of the classes, without background.
        segments: predicted centre and width.
        instances: those of each window.
        costs: weights of the costs that decide the matching.

    Example:
        >>> instances = [Instances(torch.tensor([0]), torch.tensor([[0.5, 0.2]]))]
        >>> segments = torch.tensor([[[0.5, 0.4]]])
        >>> losses = set_losses(torch.zeros(1, 1, 1), segments, instances, MatchCosts(6, 5, 2))
        >>> {name: round(value.item(), 3) for name, value in losses.items()}
        {'classification': 0.043, 'segment': 0.2, 'iou': 0.5}
    """
    pairs = match_instances(logits, segments, instances, costs)
    window = torch.cat([torch.full_like(query, place) for place, (query, _) in enumerate(pairs)])
    query = torch.cat([query for query, _ in pairs])
    labels = torch.cat([true.labels[which] for true, (_, which) in zip(instances, pairs, strict=True)])
    targets = torch.cat([true.segments[which] for true, (_, which) in zip(instances, pairs, strict=True)])
    one_hot = torch.zeros_like(logits)
    one_hot[window, query, labels] = 1.0
    matched = segments[window, query]
    count = max(sum(len(true.labels) for true in instances), 1)
    return {
        "classification": focal_loss(logits, one_hot) / count,
        "segment": (matched - targets).abs().sum() / count,
        "iou": (1 - segment_iou(matched, targets)).sum() / count,
    }


def overlap_loss(
    predicted: Float[Tensor, "batch queries"],
    segments: PredictedSegments,
    instances: Sequence[Instances],
    whole_batch: bool,
) -> Scalar:
    """Compute the mean error of predicted IoUs, those of all queries with the instance that each overlaps most.

    Args:
        predicted: IoU that each query expects.
        segments: centre and width that it is of, which get no gradient.
        instances: those of each window. A window without any has IoUs of 0.
        whole_batch: the instances of all windows count in each, as in TadTR's released code.

    Example:
        >>> true = [Instances(torch.tensor([0]), torch.tensor([[0.5, 0.2]]))]
        >>> round(overlap_loss(torch.zeros(1, 1), torch.tensor([[[0.5, 0.4]]]), true, whole_batch=False).item(), 4)
        0.5
    """
    everything = torch.cat([true.segments for true in instances])
    best = []
    for segment, true in zip(segments.detach(), instances, strict=True):
        others = everything if whole_batch else true.segments
        none = segment.new_zeros(len(segment), 1)
        best.append(torch.cat([none, segment_iou(segment[:, None], others)], dim=1).amax(dim=1))
    return (predicted - torch.stack(best)).abs().mean()
