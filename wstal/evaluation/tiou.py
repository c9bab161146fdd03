"""Overlap of time intervals, and its thresholds. All overlap functions work element by element and broadcast."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from itertools import pairwise

import numpy as np

from wstal.errors import UserError
from wstal.types import Floats


def intersection(start: Floats, end: Floats, other_start: Floats, other_end: Floats) -> Floats:
    """Compute the length that two intervals share, 0 where they do not overlap.

    Args:
        start: start of the interval.
        end: end of the interval, in the same unit.
        other_start: start of the other interval.
        other_end: end of the other interval.

    Example:
        >>> intersection(np.array([0.0]), np.array([2.0]), np.array([1.0]), np.array([3.0])).tolist()
        [1.0]
    """
    return np.asarray(np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0.0))


def tiou(start: Floats, end: Floats, other_start: Floats, other_end: Floats) -> Floats:
    """Compute the temporal intersection over union, in [0, 1], 0 where the union is empty.

    The union is the sum of the lengths minus the intersection, in this order, to round as ActivityNet's evaluator does.

    Args:
        start: start of the interval.
        end: end of the interval, in the same unit.
        other_start: start of the other interval.
        other_end: end of the other interval.

    Example:
        >>> tiou(np.array([0.0]), np.array([2.0]), np.array([1.0]), np.array([3.0])).round(3).tolist()
        [0.333]
    """
    shared = intersection(start, end, other_start, other_end)
    union = (end - start) + (other_end - other_start) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))


def hull_overlap(start: Floats, end: Floats, other_start: Floats, other_end: Floats) -> Floats:
    """Compute the intersection over the length of the hull, which is `tiou` rounded as the THUMOS14 kit does.

    Args:
        start: start of the interval.
        end: end of the interval, in the same unit.
        other_start: start of the other interval.
        other_end: end of the other interval.

    Example:
        >>> hull_overlap(np.array([0.0]), np.array([2.0]), np.array([1.0]), np.array([3.0])).round(3).tolist()
        [0.333]
    """
    shared = intersection(start, end, other_start, other_end)
    hull = np.maximum(end, other_end) - np.minimum(start, other_start)
    return np.asarray(np.divide(shared, hull, out=np.zeros_like(hull), where=hull > 0))


def tiou_key(threshold: float) -> str:
    """Return the name of a threshold in tables (`0.1`, `0.55`, `1`), without floating-point errors of sums.

    Example:
        >>> tiou_key(0.1 + 0.2)
        '0.3'
    """
    return f"{threshold:.6g}"


def parse_tious(text: str) -> tuple[float, ...]:
    """Parse thresholds from `0.1:0.1:0.7` (first, step, last, both ends included), `0.3,0.5,0.7` or `0.5`.

    A range gives first + i * step in double precision, as the released evaluators compute it: the third threshold of
    `0.1:0.1:0.7` is 0.30000000000000004. In whole segments, where tIoUs are small fractions, 3/10 does not reach it.
    That alone changes the mAP of a released detection file by 0.7 at 0.3. A list gives exactly the floats that are
    written.

    Raises:
        UserError: the text has neither form, the step does not lead to the last threshold, or the thresholds do not
            increase within (0, 1].

    Example:
        >>> parse_tious("0.5:0.25:1")
        (0.5, 0.75, 1.0)
    """
    wanted = "Write FIRST:STEP:LAST, as in 0.1:0.1:0.7, or a list, as in 0.3,0.5,0.7."
    ranged = ":" in text
    try:
        numbers = [Decimal(part.strip()) for part in text.split(":" if ranged else ",")]
        first, step, last = numbers if ranged else (numbers[0], Decimal(1), numbers[0])
    except (InvalidOperation, ValueError):  # no number, or not three in a range
        raise UserError(f"Expected tIoU thresholds, got {text!r}. {wanted}") from None
    if not all(number.is_finite() and 0 < number <= 1 for number in numbers) or last < first:
        raise UserError(f"Expected `tious` to increase within (0, 1], got {text!r}. {wanted}")
    if not ranged:
        return check_tious(tuple(map(float, numbers)))
    if step < Decimal("0.001") or (last - first) % step:
        raise UserError(f"Expected whole steps (of 0.001 or more) from {first} to {last}, got {text!r}. {wanted}")
    count = int((last - first) / step) + 1
    return check_tious(tuple(float(first) + index * float(step) for index in range(count)))


def check_tious(tious: tuple[float, ...]) -> tuple[float, ...]:
    """Return the thresholds unchanged after checking that they increase within (0, 1].

    Raises:
        UserError: they do not, or there are none.

    Example:
        >>> check_tious((0.3, 0.5))
        (0.3, 0.5)
    """
    increasing = all(low < high for low, high in pairwise(tious))
    if not tious or not increasing or not all(0 < threshold <= 1 for threshold in tious):
        raise UserError(f"Expected `tious` to increase within (0, 1], got {list(tious)}.")
    if len(set(map(tiou_key, tious))) < len(tious):
        raise UserError(f"Expected `tious` that differ in their first six digits, got {list(tious)}.")
    return tious
