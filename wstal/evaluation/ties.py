"""Order of instances with equal tIoU in the released ActivityNet evaluator.

The evaluator sorts tIoUs with numpy's default sort, which is not stable, and reads the result backwards. The choice
changes THUMOS14 results by up to 0.05 mAP (a long detection may contain two instances of the same length). No rule
based on file order or position reproduces the published digits, only that sort does. It is written out here because
numpy's own sort differs between processors and may change.
"""

from __future__ import annotations

from collections.abc import Sequence

SMALL = 15


def released_order(tious: Sequence[float]) -> list[int]:
    """Return the instances in the order in which the released evaluator tries them, largest tIoU first.

    Up to 16 instances, equal tIoUs are in reversed file order. Beyond that, they are in the order that a
    median-of-three quicksort leaves (numpy's without vector instructions, and without its switch to heap sort on
    pathological input).

    Args:
        tious: tIoU of one detection with all instances of its class and video, in file order, including zeros.

    Example:
        >>> released_order([0.2, 0.7, 0.2])
        [1, 2, 0]
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
    """Split `order[low:high + 1]` around the median of its first, middle and last item, and return its new index."""
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
