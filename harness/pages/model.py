"""What the harness publishes: pages of text, figures, and tables whose columns have roles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.seed_statistics import mean_and_half_width

Role = Literal["fact", "published", "measured", "difference", "verdict"]

SYNTHETIC_BANNER = (
    "> **Synthetic data.** These numbers come from generated features. They show that the methods learn and that the\n"
    "> harness works; they say nothing about how a method does on real video and are never compared with\n"
    "> published ones."
)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Args:
        mean: in mAP points.
        half_width: half the 95 % Student-t interval; NaN for one seed.
        seeds: how many there are.
        signed: whether it is a difference, shown with its sign.
    """

    mean: float
    half_width: float = math.nan
    seeds: int = 1
    signed: bool = False

    def __str__(self) -> str:
        mean = f"{self.mean:{'+' if self.signed else ''}.1f}"
        return mean if math.isnan(self.half_width) else f"{mean} ± {self.half_width:.1f}"


def estimate(values: Sequence[float], seeds: int) -> Estimate | None:
    """The mean over seeds, None where any of the seeds has no value: a mean with a missing member is none."""
    if not values or len(values) < seeds:
        return None
    return Estimate(*mean_and_half_width(values), len(values))


@dataclass(frozen=True)
class Table:
    """Rows under columns with roles.

    Args:
        name: of its CSV and LaTeX files, unique among all pages; None for a table that has none.
        caption: one line.
        rows: by column; a cell is text, a number, an `Estimate`, or None where there is nothing.
        roles: of columns by name; the others are facts.
    """

    name: str | None
    caption: str
    rows: Sequence[Mapping[str, Any]]
    roles: Mapping[str, Role] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """Headings, in the order in which rows first have them."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def column(self, name: str) -> list[Any]:
        """The cells of a column."""
        return [row.get(name) for row in self.rows]

    def role(self, column: str) -> Role:
        """The column's role."""
        return self.roles.get(column, "fact")


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Args:
        name: of its file, unique among all pages.
        caption: what it shows; also its text for those who cannot see it.
        svg: the drawing.
    """

    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Page:
    """One page.

    Args:
        path: below `results`, without suffix: `leaderboards/table_I`.
        title: its heading.
        blocks: Markdown paragraphs, tables and figures, in order.
        synthetic: whether its numbers come from generated features; every form of it then says so.
    """

    path: str
    title: str
    blocks: Sequence[str | Table | Figure]
    synthetic: bool = False
