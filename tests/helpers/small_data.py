"""A tiny data set with fewer videos and columns than the product's own."""

from __future__ import annotations

from pathlib import Path

from harness.data import tiny
from harness.data.tiny import CLASSES as CLASSES


def write_tiny(folder: Path, train: int = 9, test: int = 5, width: int = 16) -> Path:
    """Write it in milliseconds."""
    return tiny.write_tiny(folder, train, test, width)
