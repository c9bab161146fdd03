"""Buckets of instances by what follows from annotations: coverage, length, number of instances in the video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wstal.families import many_classes
from wstal.types import Floats, IntArray

NAMES = ("XS", "S", "M", "L", "XL")
# upper edges, the last one open; those of the released diagnosis tool
FEW_CLASSES = {"coverage": (0.02, 0.04, 0.06, 0.08), "length": (3, 6, 12, 18), "instances": (1, 40, 80)}
MANY_CLASSES = {
    "coverage": tuple(np.linspace(0, 1, 6)[1:-1].tolist()), "length": (30, 60, 120, 180), "instances": (1, 4, 8),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Buckets:
    """Instances in buckets of one characteristic.

    Args:
        names: of the buckets, smallest first.
        edges: upper edge of each bucket but the last, which belongs to it.
        of: `[M]` bucket of each instance.
    """

    names: tuple[str, ...]
    edges: tuple[float, ...]
    of: IntArray

    @property
    def sizes(self) -> list[int]:
        """Number of instances in each bucket."""
        return [int(count) for count in np.bincount(self.of, minlength=len(self.names))]


def buckets_of(values: Mapping[str, Floats | IntArray], dataset: str) -> dict[str, Buckets]:
    """Return the instances in buckets by characteristic, without a characteristic of which a value is unknown.

    Args:
        values: `[M]` by name: `coverage` (length over the video's), `length` (seconds), `instances` (of any class, in
            the video); NaN where unknown.
        dataset: family of the data set, which decides the edges.

    Example:
        >>> found = buckets_of({"coverage": np.array([0.1, 0.03]), "length": np.array([np.nan, 2.0])}, "thumos14")
        >>> {name: [buckets.names[bucket] for bucket in buckets.of] for name, buckets in found.items()}
        {'coverage': ['XL', 'S']}
    """
    edges = MANY_CLASSES if many_classes(dataset) else FEW_CLASSES
    return {
        name: Buckets(NAMES[: len(edges[name]) + 1], edges[name], np.searchsorted(edges[name], column))
        for name, column in values.items()
        if not np.isnan(column).any()
    }
