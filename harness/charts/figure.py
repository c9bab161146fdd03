"""A figure of a page: what a chart draws."""

from __future__ import annotations

from dataclasses import dataclass


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
