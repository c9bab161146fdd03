"""Figure of a page, which a chart draws."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Drawing with its name and caption.

    Args:
        name: of its file, unique among all pages.
        caption: one line, read also to those who cannot see the drawing.
        svg: the drawing as text.
    """

    name: str
    caption: str
    svg: str
