"""Proposals of a training video sorted by their overlap with instances, and places of rows in and around them (SSN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wstal.types import Bools, Floats, IntArray

COURSE, SIDE = 5, 2  # rows of a proposal's course, and of each of its sides


@dataclass(frozen=True, eq=False)
class Pool:
    """Proposals of a video of one kind.

    Args:
        spans: `[N, 2]` start and end.
        label: `[N]` class; -1 where there is none.
        moves: `[N, 2]` of centre and size that take a proposal to its instance.
    """

    spans: Floats
    label: IntArray
    moves: Floats

    def __len__(self) -> int:
        return len(self.label)

    def draw(self, count: int, rng: np.random.Generator) -> Pool:
        """Return so many drawn proposals, with replacement if there are too few, empty ones if there are none.

        Args:
            count: number of proposals.
            rng: generator that draws them.
        """
        if not count or not len(self):
            return Pool(np.zeros((count, 2)), np.full(count, -1), np.zeros((count, 2)))
        chosen = rng.choice(len(self), count, replace=len(self) < count)
        return Pool(self.spans[chosen], self.label[chosen], self.moves[chosen])


def joined(pools: Sequence[Pool]) -> Pool:
    """Return the proposals of several pools, one pool after the other.

    Example:
        >>> one = Pool(np.zeros((1, 2)), np.array([3]), np.zeros((1, 2)))
        >>> joined([one, one]).label.tolist()
        [3, 3]
    """
    spans, label, moves = ([getattr(pool, name) for pool in pools] for name in ("spans", "label", "moves"))
    return Pool(np.concatenate(spans), np.concatenate(label), np.concatenate(moves))


def overlaps(proposals: Floats, instances: Floats) -> tuple[IntArray, Floats, Floats]:
    """Return `[P]` instance of the highest IoU with each proposal, that IoU, and the share of the proposal in it.

    Args:
        proposals: `[P, 2]`.
        instances: `[N, 2]`, N at least 1.

    Example:
        >>> [found.tolist() for found in overlaps(np.array([[0.0, 2.0]]), np.array([[5.0, 6.0], [1.0, 4.0]]))]
        [[1], [0.25], [0.5]]
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

    Example:
        >>> moves_of(np.array([[0.0, 4.0]]), np.array([[1.0, 5.0]])).tolist()
        [[0.25, 0.0]]
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
        incomplete_overlap: share of an incomplete proposal that its instance covers at least.

    Example:
        >>> truth = np.array([[0.0, 4.0]]), np.array([7])
        >>> [pool.label.tolist() for pool in pools(np.array([[0.0, 1.0], [6.0, 9.0]]), truth, 9.0, 0.01)]
        [[7], [7], [7]]
    """
    instances, classes = truth
    proposals = proposals[proposals[:, 1] > proposals[:, 0]]
    if not len(instances):
        none = Pool(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), np.zeros((0, 2)))
        return none, none, Pool(proposals, np.full(len(proposals), -1), np.zeros((len(proposals), 2)))
    best, iou, share = overlaps(proposals, instances)
    near = iou > 0.7
    incomplete = (iou < 0.3) & (share > incomplete_overlap)
    background = ~incomplete & (iou < 0.01) & (proposals[:, 1] - proposals[:, 0] > 0.02 * length)

    def of(chosen: Bools) -> Pool:
        return Pool(proposals[chosen], classes[best[chosen]], moves_of(proposals[chosen], instances[best[chosen]]))

    own = Pool(instances, classes, np.zeros((len(instances), 2)))
    return joined([of(near), own]), of(incomplete), of(background)


def places_of(start: Floats, end: Floats, length: float, rng: np.random.Generator | None) -> tuple[Floats, Floats]:
    """Return `[P, 9]` places of a proposal's rows, and `[P, 2]` the share of each side that lies in the video.

    Args:
        start: `[P]`.
        end: `[P]`.
        length: of the video.
        rng: draws a place in each equal part of a stage. None: their middles.

    Example:
        >>> places, shares = places_of(np.array([1.0]), np.array([6.0]), 9.0, None)
        >>> places[0, 2:7].tolist(), shares.tolist()
        ([1.5, 2.5, 3.5, 4.5, 5.5], [[0.4, 1.0]])
    """
    half = np.maximum((end - start) / 2, 1e-9)
    low, high = np.maximum(start - half, 0), np.minimum(end + half, length)
    stages = ((low, start, SIDE), (start, end, COURSE), (end, high, SIDE))
    places = []
    for first, last, count in stages:
        within = rng.random((len(start), count)) if rng else np.full((len(start), count), 0.5)
        places.append(first[:, None] + (last - first)[:, None] * (np.arange(count) + within) / count)
    return np.concatenate(places, axis=1), np.column_stack([start - low, high - end]) / half[:, None]
