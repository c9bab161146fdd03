"""Samplers that choose the rows (snippets) of a video: pure functions from a length to row indices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wstal.types import IntArray


def stratified_random(length: int, count: int, rng: np.random.Generator) -> IntArray:
    """Draw a training sample of `count` sorted row indices (ACM-Net, `random` in its code).

    A longer video is cut by the grid `i * length / count`. Each cell gives one row, drawn uniformly between its grid
    points, both included, so a row may repeat. The last row is drawn from the one before it to the end. A shorter video
    gives `count` draws with replacement, sorted. Equal lengths give the identity.

    Args:
        length: rows of the video.
        count: rows to draw.
        rng: generator of the draws.

    Example:
        >>> stratified_random(4, 4, np.random.default_rng(0)).tolist()
        [0, 1, 2, 3]
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
    """Return a test sample: all rows of a video of up to `at_most` rows, else `floor(i * length / at_most)`.

    A video of one row gives it twice, so that it can be interpolated (ACM-Net, `uniform` in its code).

    Args:
        length: rows of the video.
        at_most: rows above which the video is sampled down.

    Example:
        >>> uniform(10, 4).tolist(), uniform(1, 4).tolist()
        ([0, 2, 5, 7], [0, 0])
    """
    if length == 1:
        return np.zeros(2, dtype=np.int64)
    if length <= at_most:
        return np.arange(length)
    return np.arange(at_most) * length // at_most


def grid(length: int, count: int) -> IntArray:
    """Return a test sample of exactly `count` rows, `floor(i * length / count)` (STPN, BaS-Net).

    Short videos repeat rows.

    Args:
        length: rows of the video.
        count: rows to return.

    Example:
        >>> grid(2, 4).tolist()
        [0, 0, 1, 1]
    """
    return np.arange(count) * length // count


def grid_random(length: int, count: int, rng: np.random.Generator) -> IntArray:
    """Draw a training sample of exactly `count` sorted rows (STPN, BaS-Net, CoLA, HAM-Net, CO2-Net, ASL).

    Row i is drawn between the grid points `floor(i * length / count)` and that of i + 1, both included, and is at most
    the last row. Where the two are equal, as in a shorter video, it is that row.

    Args:
        length: rows of the video.
        count: rows to draw.
        rng: generator of the draws.

    Example:
        >>> grid_random(1, 3, np.random.default_rng(0)).tolist()
        [0, 0, 0]
    """
    edges = np.minimum(np.arange(count + 1) * length // count, length - 1)
    return rng.integers(edges[:-1], edges[1:] + 1)


def crop(length: int, at_most: int, rng: np.random.Generator) -> IntArray:
    """Draw a training sample of neighbouring rows: all of a short video, else a random window (W-TALC).

    Args:
        length: rows of the video.
        at_most: length of the window.
        rng: generator of the draws.

    Example:
        >>> crop(3, 5, np.random.default_rng(0)).tolist()
        [0, 1, 2]
    """
    first = int(rng.integers(0, length - at_most)) if length > at_most else 0
    return np.arange(first, first + min(length, at_most))


def whole(length: int, at_most: int, rng: np.random.Generator | None = None) -> IntArray:
    """Return all rows, in training or at test (FAC-Net, RSKP).

    Args:
        length: rows of the video.
        at_most: not used.
        rng: not used.

    Example:
        >>> whole(3, 2).tolist()
        [0, 1, 2]
    """
    return np.arange(length)


def paired_batches(
    labels: Sequence[tuple[int, ...]], size: int, pairs: int, rng: np.random.Generator, *, distinct: bool
) -> list[IntArray]:
    """Draw batches that begin with pairs of videos of one class, followed by any videos (W-TALC, CO2-Net).

    A pair's class is drawn uniformly from the classes that have enough videos, then its two videos. There are as many
    batches as show each video once on average.

    Args:
        labels: class indices of each video.
        size: videos per batch.
        pairs: number of pairs. Fewer if they do not fit into `size`, none if no class has enough videos.
        rng: generator of the epoch.
        distinct: the two videos of a pair are different (CO2-Net).

    Example:
        >>> batches = paired_batches([(0,), (1,), (1,)], size=2, pairs=1, rng=np.random.default_rng(0), distinct=True)
        >>> [sorted(batch.tolist()) for batch in batches]
        [[1, 2], [1, 2]]
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
