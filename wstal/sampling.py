"""Which snippets of a video a method sees: pure functions from a length to row indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wstal.types import IntArray


def stratified_random(length: int, count: int, rng: np.random.Generator) -> IntArray:
    """Training sample of `count` sorted row indices out of `length` (ACM-Net; `random` in its code).

    A longer video is cut by the grid `i * length / count`; each cell gives one row, drawn uniformly between its
    grid points, both included, so a row may repeat; the last row is drawn from the one before it to the end.
    A shorter video gives `count` draws with replacement, sorted. Equal lengths give the identity.
    """
    if length == count:
        return np.arange(length)
    if length < count:
        return np.sort(rng.integers(0, length, count))
    grid = np.arange(count) * length // count
    draws = np.empty(count, dtype=np.int64)
    draws[:-1] = rng.integers(grid[:-1], grid[1:] + 1)
    draws[-1] = rng.integers(draws[-2] if count > 1 else 0, length)
    return draws


def uniform(length: int, at_most: int) -> IntArray:
    """Test sample: all rows of a video of up to `at_most` rows, else `floor(i * length / at_most)`.

    A video of one row gives it twice, so that it can be interpolated (ACM-Net; `uniform` in its code).
    """
    if length == 1:
        return np.zeros(2, dtype=np.int64)
    if length <= at_most:
        return np.arange(length)
    return np.arange(at_most) * length // at_most


def grid(length: int, count: int) -> IntArray:
    """Test sample of exactly `count` rows, `floor(i * length / count)`; short videos repeat rows (STPN, BaS-Net)."""
    return np.arange(count) * length // count


def grid_random(length: int, count: int, rng: np.random.Generator) -> IntArray:
    """Training sample of exactly `count` sorted rows (STPN, BaS-Net, CoLA, HAM-Net, CO2-Net, ASL).

    Row i is drawn between grid points `floor(i * length / count)` and that of i + 1, both included, at most the last
    row; where the two are one, as in a shorter video, it is that.
    """
    edges = np.minimum(np.arange(count + 1) * length // count, length - 1)
    return rng.integers(edges[:-1], edges[1:] + 1)


def crop(length: int, at_most: int, rng: np.random.Generator) -> IntArray:
    """Training sample of neighbouring rows: all of a video of up to `at_most` rows, else a random window (W-TALC)."""
    first = int(rng.integers(0, length - at_most)) if length > at_most else 0
    return np.arange(first, first + min(length, at_most))


def whole(length: int, at_most: int, rng: np.random.Generator | None = None) -> IntArray:
    """All rows, in training or at test (FAC-Net, RSKP); `at_most` is not asked."""
    return np.arange(length)


def paired_batches(
    labels: Sequence[tuple[int, ...]], size: int, pairs: int, rng: np.random.Generator, *, distinct: bool
) -> list[IntArray]:
    """Batches that begin with pairs of videos of one class and go on with any videos, all drawn anew (W-TALC, CO2-Net).

    A pair's class is drawn evenly from the classes that have videos enough, then its two videos. As many batches as
    show each video once on average.

    Args:
        labels: the videos' classes.
        size: videos a batch.
        pairs: how many pairs; fewer where `size` does not hold them, none where no class has videos enough.
        rng: of the epoch.
        distinct: the two videos of a pair differ (CO2-Net).
    """
    members: dict[int, list[int]] = {}
    for video, classes in enumerate(labels):
        for label in classes:
            members.setdefault(label, []).append(video)
    choices = [members[label] for label in sorted(members) if len(members[label]) > distinct]
    pairs = min(pairs, size // 2) if choices else 0
    batches = []
    for _ in range(-(-len(labels) // size)):
        rows: list[int] = []
        for _ in range(pairs):
            rows += rng.choice(choices[rng.integers(len(choices))], 2, replace=not distinct).tolist()
        rows += rng.integers(0, len(labels), size - len(rows)).tolist()
        batches.append(np.array(rows, dtype=np.int64))
    return batches
