"""What a printed number may stand for, and what a rule reports.

A printed number stands for every number that rounds to it: 46.8 for [46.75, 46.85]. Arithmetic is on such intervals,
in exact fractions, so that a finding is what no rounding explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import Literal, NamedTuple

from harness.paper.tables import NUMBER, Claim, PublishedRow, PublishedTable, Reference


class Interval(NamedTuple):
    """The numbers that a printed number may stand for, both ends included."""

    low: Fraction
    high: Fraction

    @property
    def middle(self) -> Fraction:
        """The printed number itself, or what the printed numbers give."""
        return (self.low + self.high) / 2

    def meets(self, other: Interval) -> bool:
        """Whether one number can be both."""
        return self.low <= other.high and other.low <= self.high

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)


@cache
def interval(text: str) -> Interval | None:
    """What a printed number may stand for: half a unit of its last digit to either side; None for a dash or a blank."""
    if not NUMBER.fullmatch(text):
        return None
    half = Fraction(1, 2 * 10 ** len(text.partition(".")[2]))
    return Interval(Fraction(text) - half, Fraction(text) + half)


def mean(intervals: Sequence[Interval]) -> Interval:
    """What the mean of printed numbers may be."""
    lows, highs = zip(*intervals, strict=True)
    return Interval(sum(lows) / Fraction(len(lows)), sum(highs) / Fraction(len(highs)))


class Paper(NamedTuple):
    """What the rules are run over."""

    tables: Sequence[PublishedTable]
    claims: Sequence[Claim] = ()
    references: Mapping[int, Reference] = {}


Kind = Literal[
    "average",
    "wrong column",
    "average out of bounds",
    "printed differently",
    "same row",
    "transposed digits",
    "bold",
    "rising mAP",
    "claim",
    "citation",
    "venue",
    "cost",
]


@dataclass(frozen=True)
class Finding:
    """A printed number that breaks a rule.

    Args:
        kind: which rule.
        place: `TABLE/ROW: COLUMN`, several rows separated by commas; the section for the text.
        printed: what stands there.
        recomputed: what the rule gives instead.
        why: one line.
    """

    kind: Kind
    place: str
    printed: str
    recomputed: str
    why: str


@dataclass
class Tally:
    """What a rule looked at.

    Args:
        checked: how many places it could judge; those without a finding agree.
        unknown: how many it could not.
        findings: those that break it.
    """

    checked: int = 0
    unknown: int = 0
    findings: list[Finding] = field(default_factory=list)

    def check(self, finding: Finding | None) -> None:
        """Count a place that could be judged."""
        self.checked += 1
        if finding is not None:
            self.findings.append(finding)


def place_of(table: PublishedTable, row: PublishedRow, column: str = "") -> str:
    """`TABLE/ROW`, or `TABLE/ROW: COLUMN`."""
    return f"{table.number}/{row.id}" + (f": {column}" if column else "")


def rounded(number: Fraction, digits: int) -> str:
    """The number with so many decimals."""
    return f"{float(number):.{digits}f}"


def off_line(values: Mapping[int, Interval]) -> list[tuple[int, Interval] | None]:
    """For each three lengths: None where some a + b T gives all three values within their rounding, else the middle
    length and what a line through the others has there.

    Args:
        values: what printed numbers may stand for, by T.

    >>> third = {1: interval("0.1"), 2: interval("0.2")}
    >>> off_line(third | {4: interval("0.5")}), [at for at, _ in off_line(third | {4: interval("0.9")})]
    ([None], [2])
    """
    misfits: list[tuple[int, Interval] | None] = []
    for first, middle, last in combinations(sorted(values), 3):
        share = Fraction(middle - first, last - first)
        wanted = Interval(*(a + share * (b - a) for a, b in zip(values[first], values[last], strict=True)))
        misfits.append(None if wanted.meets(values[middle]) else (middle, wanted))
    return misfits
