"""Which instance the released ActivityNet evaluator takes where a detection overlaps two of them equally.

It sorts the tIoUs by numpy's default sort, unstable, and reads the result backwards. The choice moves
THUMOS14 numbers by up to 0.05 mAP (an over-long detection contains two instances of the same length), and no rule
on file order or position reproduces the published digits: only that sort does. It is spelt out here, because numpy's
own differs between processors and is not promised to stay.
"""

from __future__ import annotations

from collections.abc import Sequence

SMALL = 15


def released_order(tious: Sequence[float]) -> list[int]:
    """Instances in the order in which the released evaluator tries them, largest tIoU first.

    Up to 16 instances this is file order reversed among equals; beyond, equals fall as the partitions of a
    median-of-three quicksort leave them (numpy's without vector instructions; its switch to heap sort on
    pathological input is left out).

    Args:
        tious: of one detection with all instances of its class and video, in file order, also those of tIoU 0.
    """
    order = list(range(len(tious)))
    pending = [(0, len(order) - 1)]
    while pending:
        low, high = pending.pop()
        if high - low > SMALL:
            middle = _partition(order, tious, low, high)
            pending += [(low, middle - 1), (middle + 1, high)]
        else:
            order[low : high + 1] = sorted(order[low : high + 1], key=tious.__getitem__)
    return order[::-1]


def _partition(order: list[int], tious: Sequence[float], low: int, high: int) -> int:
    """Split `order[low:high + 1]` around the median of its first, middle and last; return the median's new place."""
    middle = (low + high) // 2
    for left, right in ((low, middle), (middle, high), (low, middle)):
        if tious[order[right]] < tious[order[left]]:
            order[left], order[right] = order[right], order[left]
    pivot = tious[order[middle]]
    parked = high - 1
    order[middle], order[parked] = order[parked], order[middle]
    left, right = low + 1, parked - 1
    while True:
        while tious[order[left]] < pivot:
            left += 1
        while pivot < tious[order[right]]:
            right -= 1
        if left >= right:
            break
        order[left], order[right] = order[right], order[left]
        left, right = left + 1, right - 1
    order[left], order[parked] = order[parked], order[left]
    return left
