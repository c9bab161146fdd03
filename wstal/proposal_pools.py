"""Proposals of a training video sorted by their overlap with instances, and places of rows in and around them (SSN)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wstal.types import Bools, Floats, IntArray

COURSE, SIDE = 5, 2  # rows of a proposal's course, and of each of its sides


class Pool(NamedTuple):
    """Proposals of a video of one kind: `[N]` start and end in up-sampled rows, class, and moves of centre and size."""

    start: Floats
    end: Floats
    label: IntArray
    centre: Floats
    size: Floats


def overlaps(proposals: Floats, instances: Floats) -> tuple[IntArray, Floats, Floats]:
    """Return `[P]` instance of the highest IoU with each proposal, that IoU, and the share of the proposal in it.

    Args:
        proposals: `[P, 2]`.
        instances: `[N, 2]`, N at least 1.
    """
    low = np.maximum(proposals[:, None, 0], instances[None, :, 0])
    shared = np.maximum(np.minimum(proposals[:, None, 1], instances[None, :, 1]) - low, 0)
    length = proposals[:, 1] - proposals[:, 0]
    iou = shared / (length[:, None] + (instances[:, 1] - instances[:, 0]) - shared)
    best = iou.argmax(axis=1)
    row = np.arange(len(proposals))
    return best, iou[row, best], shared[row, best] / length


def moves_of(proposals: Floats, instances: Floats, unit: float = 0.0) -> Floats:
    """Return `[P, 2]` moves of centre and size that take each proposal to its instance.

    Args:
        proposals: `[P, 2]`.
        instances: `[P, 2]`.
        unit: added to lengths, a frame in the released code.
    """
    length, target = (spans[:, 1] - spans[:, 0] + unit for spans in (proposals, instances))
    shift = (instances.sum(axis=1) - proposals.sum(axis=1)) / 2
    return np.column_stack([shift / length, np.log(target / length)])


def pools(
    proposals: Floats, truth: tuple[Floats, IntArray], length: float, incomplete_overlap: float
) -> tuple[Pool, Pool, Pool]:
    """Sort a video's proposals into foreground (with all instances), incomplete and background ones.

    Args:
        proposals: `[P, 2]` start and end.
        truth: `[N, 2]` instances and `[N]` their classes.
        length: of the video.
        incomplete_overlap: as in `SsnOptions`.
    """
    instances, classes = truth
    proposals = proposals[proposals[:, 1] > proposals[:, 0]]
    if not len(instances):
        none = Pool(*np.zeros((2, 0)), np.zeros(0, dtype=np.int64), *np.zeros((2, 0)))
        return none, none, _pool(proposals, np.full(len(proposals), -1), np.zeros((len(proposals), 2)))
    best, iou, share = overlaps(proposals, instances)
    near = iou > 0.7
    incomplete = (iou < 0.3) & (share > incomplete_overlap)
    background = ~incomplete & (iou < 0.01) & (proposals[:, 1] - proposals[:, 0] > 0.02 * length)

    def of(chosen: Bools) -> Pool:
        return _pool(proposals[chosen], classes[best[chosen]], moves_of(proposals[chosen], instances[best[chosen]]))

    own = _pool(instances, classes, np.zeros((len(instances), 2)))
    return Pool(*map(np.concatenate, zip(of(near), own, strict=True))), of(incomplete), of(background)


def _pool(spans: Floats, label: IntArray, moves: Floats) -> Pool:
    return Pool(*spans.T, label.astype(np.int64), *moves.T)


def places_of(start: Floats, end: Floats, length: float, rng: np.random.Generator | None) -> tuple[Floats, Floats]:
    """Return `[P, 9]` places of a proposal's rows, and `[P, 2]` the share of each side that lies in the video.

    Args:
        start: `[P]`.
        end: `[P]`.
        length: of the video.
        rng: draws a place in each equal part of a stage. None: their middles.
    """
    half = np.maximum((end - start) / 2, 1e-9)
    low, high = np.maximum(start - half, 0), np.minimum(end + half, length)
    stages = ((low, start, SIDE), (start, end, COURSE), (end, high, SIDE))
    places = []
    for first, last, count in stages:
        within = rng.random((len(start), count)) if rng else np.full((len(start), count), 0.5)
        places.append(first[:, None] + (last - first)[:, None] * (np.arange(count) + within) / count)
    return np.concatenate(places, axis=1), np.column_stack([start - low, high - end]) / half[:, None]
