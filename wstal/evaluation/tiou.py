"""Overlap of time intervals, and the thresholds it is judged by.

Every function works element by element and broadcasts.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from wstal.errors import UserError

Floats = npt.NDArray[np.float64]


def intersection(start: Floats, end: Floats, other_start: Floats, other_end: Floats) -> Floats:
    """Length shared by two intervals, 0 where they are apart."""
    return np.asarray(np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0.0))


def tiou(start: Floats, end: Floats, other_start: Floats, other_end: Floats) -> Floats:
    """Temporal intersection over union, in [0, 1]; 0 where the union is empty.

    The union is the sum of the lengths less the intersection, in this order: as ActivityNet's evaluator rounds it.
    """
    shared = intersection(start, end, other_start, other_end)
    union = (end - start) + (other_end - other_start) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))


def hull_overlap(start: Floats, end: Floats, other_start: Floats, other_end: Floats) -> Floats:
    """Intersection over the length of the hull: `tiou` where intervals touch, as the THUMOS14 kit rounds it."""
    shared = intersection(start, end, other_start, other_end)
    hull = np.maximum(end, other_end) - np.minimum(start, other_start)
    return np.asarray(np.divide(shared, hull, out=np.zeros_like(hull), where=hull > 0))


def tiou_key(threshold: float) -> str:
    """How tables name a threshold: `0.1`, `0.55`, `1`; an error of a floating-point sum does not show."""
    return f"{threshold:.6g}"


def parse_tious(text: str) -> tuple[float, ...]:
    """Thresholds from `0.1:0.1:0.7` (first, step, last, both ends included), `0.3,0.5,0.7` or `0.5`.

    A range gives first + i * step in double precision, as the released evaluators have it: the third threshold of
    `0.1:0.1:0.7` is 0.30000000000000004. In whole segments, where tIoUs are small fractions, 3/10 does not reach it:
    that alone moves the mAP of a released detection file by 0.7 at 0.3. A list gives the floats that one writes.

    Raises:
        UserError: the text is of neither form, the step does not lead to the last threshold, or the thresholds do not
            increase within (0, 1].
    """
    wanted = "Write FIRST:STEP:LAST, as in 0.1:0.1:0.7, or a list, as in 0.3,0.5,0.7."
    ranged = ":" in text
    try:
        numbers = [Decimal(part.strip()) for part in text.split(":" if ranged else ",")]
    except InvalidOperation:
        raise UserError(f"Expected tIoU thresholds, got {text!r}. {wanted}") from None
    if not all(number.is_finite() and 0 < number <= 1 for number in numbers):
        raise UserError(f"Expected `tious` to increase within (0, 1], got {text!r}. {wanted}")
    if ranged:
        if len(numbers) != 3:
            raise UserError(f"Expected tIoU thresholds, got {text!r}. {wanted}")
        first, step, last = numbers
        if last < first:
            raise UserError(f"Expected `tious` to increase within (0, 1], got {text!r}. {wanted}")
        if step < Decimal("0.001") or (last - first) % step:
            raise UserError(f"Expected whole steps (of 0.001 or more) from {first} to {last}, got {text!r}. {wanted}")
        count = int((last - first) / step) + 1
        return check_tious(tuple(float(first) + index * float(step) for index in range(count)))
    return check_tious(tuple(float(number) for number in numbers))


def check_tious(tious: tuple[float, ...]) -> tuple[float, ...]:
    """The same thresholds, once they are known to increase within (0, 1].

    Raises:
        UserError: they do not, or there are none.
    """
    increasing = all(low < high for low, high in pairwise(tious))
    if not tious or not increasing or not all(0 < threshold <= 1 for threshold in tious):
        raise UserError(f"Expected `tious` to increase within (0, 1], got {list(tious)}.")
    if len(set(map(tiou_key, tious))) < len(tious):
        raise UserError(f"Expected `tious` that differ in their first six digits, got {list(tious)}.")
    return tious
