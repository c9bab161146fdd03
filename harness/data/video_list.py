"""Named list of videos, which identifies what a number is computed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.data.descriptor import list_digest


@dataclass(frozen=True)
class VideoList:
    """Named and sorted list of videos, which identifies the videos that a number is computed over.

    Args:
        name: its name.
        videos: the videos.
        truth: videos whose annotations are the ground truth, where they are not these videos.
    """

    name: str
    videos: tuple[str, ...]
    truth: tuple[str, ...] | None = None

    def describe(self) -> dict[str, Any]:
        """Identify the list for a record."""
        return {"list": self.name, "videos": len(self.videos), "sha256": list_digest(self.videos)}
