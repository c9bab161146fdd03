"""Style that all charts share, and the way to write them as SVG: the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.charts.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# stands for the reader's text colour until the SVG is written
INK = "#010203"
# at least 3:1 on white and on GitHub's dark, and told apart by colour-blind readers (after Okabe and Ito)
GREY, BLUE, VERMILION, GREEN, PURPLE = "#808890", "#1f7fc4", "#d55e00", "#009e73", "#b8659b"
LINES = [
    (colour, marker, dash)
    for dash in ("-", "--", ":", "-.")
    for colour, marker in ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"))
]
# text stays text, in the reader's fonts, and a `$` in a class name is a dollar
SHARED: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "axes.titlelocation": "left",
    "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
}  # fmt: skip
PAGE: dict[Any, Any] = {
    "svg.hashsalt": "figures", "savefig.transparent": True, "font.size": 9, "axes.titlesize": 9,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
    "axes.axisbelow": True, "grid.color": GREY, "grid.alpha": 0.3, "grid.linewidth": 0.6,
    "lines.linewidth": 1.6, "lines.markersize": 5.5, "legend.frameon": False, "legend.fontsize": 8.5,
    "ytick.major.size": 0, "xtick.major.size": 3, "xtick.major.width": 0.6,
}  # fmt: skip
# the reader's own font is narrower than the one that was measured, so nothing is cut
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
# a picture alone follows the reader's scheme; either grey still reads (3:1) where a page shows it on the other ground
STYLE_SHEET = (
    "<style>svg{color:#656d76}@media (prefers-color-scheme:dark){svg{color:#8b949e}}"
    f"*{{stroke-linejoin:round;stroke-linecap:butt}}text{{font-family:{FONT}}}</style>"
)
# inches: a page's figure, a row of it
WIDTH, ROW = 7.4, 0.27
SYNTHETIC = "Synthetic data"


def to_svg(draw: Callable[[], Canvas], settings: Mapping[Any, Any], *omitted: str) -> str:
    """Write a chart as SVG, whatever the user's matplotlib is set to.

    Args:
        draw: called with the settings in effect.
        settings: matplotlib's, beside those that all charts share.
        omitted: metadata that matplotlib would write besides the date.
    """
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**SHARED, **settings})
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        buffer = io.StringIO()
        draw().savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", *omitted)))
    return buffer.getvalue()


def page_figure(
    name: str, caption: str, height: float, draw: Callable[[Axes], None], *, synthetic: bool = False
) -> Figure:
    """Draw a page's figure, readable on light and on dark ground.

    Args:
        name: of the figure's file.
        caption: of the figure.
        height: inches, without the line that marks synthetic data.
        draw: fills the one panel.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.
    """

    def canvas() -> Canvas:
        from matplotlib.figure import Figure as Canvas

        drawn = Canvas(figsize=(WIDTH, height + (ROW if synthetic else 0)), layout="constrained")
        draw(drawn.add_subplot())
        if synthetic:
            drawn.suptitle(SYNTHETIC, x=0.01, ha="left", fontsize=9, fontweight="bold")
        return drawn

    return Figure(name, f"{SYNTHETIC}: {caption}" if synthetic else caption, themed(to_svg(canvas, PAGE, "Creator")))


def themed(svg: str) -> str:
    """Give text the reader's colour and font, and drop the digits of coordinates that nobody sees."""
    svg = re.sub(r"<style.*?</style>", STYLE_SHEET, svg, count=1, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    return re.sub(r"<[^<>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", tag[0]), svg)
