"""Which snippets of a video a method sees: pure functions from a length to row indices."""

from __future__ import annotations

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
