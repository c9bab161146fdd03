"""Memory that a piece of work takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable


def traced_peak(work: Callable[[], object]) -> int:
    """Return the most bytes of Python and NumPy that work had allocated at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
