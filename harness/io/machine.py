"""Machine that this process runs on, as far as its operating system tells."""

from __future__ import annotations

import os

ASSUMED_MEMORY = 8 * 2**30  # bytes, where the system does not tell


def core_count() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_size() -> int:
    """Return the bytes of the machine's memory, or an assumed size."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such function (Windows), name or value
        return ASSUMED_MEMORY
    return size if size > 0 else ASSUMED_MEMORY
