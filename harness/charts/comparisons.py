"""Charts of the leaderboards: published beside measured, intervals over seeds, ablations, mAP over tIoU."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.charts.figure import Figure
from harness.charts.style import BLUE, GREY, INK, LINES, ROW, VERMILION, page_figure
from harness.seed_statistics import Estimate, estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# inches: a line more of a row's label, the space above and below the rows, a chart of curves
LINE, AROUND, CURVES_HEIGHT = 0.14, 1.05, 3.6
# opacity of a bar, so that its interval can be read on it
FILLED = 0.45
# letters of a line of a label
LABEL, KEY = 36, 30
# columns of a heat map that have names and numbers
MOST_NAMED = 30
# share of the largest value above which black on viridis has more contrast than white
LEGIBLE = 0.42
# inches of a letter of their names
LETTER = 0.06
# words, marker, edge and face of the published and the measured value, where they are comparable and where not
DUMBBELL_KEYS = {
    True: (("published", "D", VERMILION, VERMILION), ("measured, 95 % interval", "o", BLUE, BLUE)),
    False: (("published, not comparable", "D", GREY, "none"), ("measured, not comparable", "o", GREY, "none")),
}
BAR_KEYS = [("interval leaves out 0", "s", GREY, (GREY, FILLED)), ("holds 0, or one seed", "s", GREY, "none")]


@dataclass(frozen=True)
class Compared:
    """Row of a dumbbell chart.

    Args:
        label: the method.
        published: mAP in percent; None where none is printed.
        measured: mAP in percent, or why there is none (`not run`).
        comparable: whether data, features, protocol and selection are the same.
    """

    label: str
    published: float | None
    measured: Estimate | str
    comparable: bool


def dumbbell(rows: Sequence[Compared], *, name: str, caption: str) -> Figure:
    """Draw published beside measured mAP, hollow and grey where the two are not comparable.

    Synthetic data have no published numbers, so there is no chart of them.

    Args:
        rows: top to bottom.
        name: of the figure's file.
        caption: of the figure.

    Raises:
        ValueError: no rows.
    """

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            (_, _, edge, inner), (_, marker, colour, face) = DUMBBELL_KEYS[row.comparable]
            if isinstance(row.measured, Estimate):
                mean, line = row.measured.mean, "-" if row.comparable else (0, (1, 2))
                if row.published is not None:
                    axes.plot([row.published, mean], [place, place], color=GREY, linewidth=1, linestyle=line, zorder=1)
                _interval(axes, place, row.measured, colour)
                # smaller and on top: both are seen where they agree
                axes.plot(mean, place, marker, color=colour, markerfacecolor=face, markersize=4.5, zorder=4)
            _remark(axes, place, row.measured)
            if row.published is not None:
                axes.plot(row.published, place, "D", color=edge, markerfacecolor=inner, markersize=7, zorder=3)
        kinds = {row.comparable for row in rows}
        _legend(axes, [key for comparable, keys in DUMBBELL_KEYS.items() if comparable in kinds for key in keys])

    return _horizontal(name, caption, [row.label for row in rows], "mAP (%)", draw, remarks="measured")


def intervals(
    rows: Mapping[str, Sequence[float]], *, name: str, caption: str, axis: str = "mAP (%)", synthetic: bool = False
) -> Figure:
    """Draw mean and 95 % Student-t interval of each row, with a dot for each seed.

    Args:
        rows: mAP in percent, one for each seed, by label from top to bottom.
        name: of the figure's file.
        caption: of the figure.
        axis: the metric, with its unit.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.

    Raises:
        ValueError: no rows, or a row without seeds.
    """

    def draw(axes: Axes) -> None:
        for place, (label, values) in enumerate(rows.items()):
            if (mean := estimate(values, len(values))) is None:
                raise ValueError(f"{name}: {label!r} has no seeds")
            _interval(axes, place, mean, BLUE)
            axes.plot(mean.mean, place, "D", color=BLUE, zorder=3)
            # below its interval, so that neither hides the other
            axes.plot(values, [place + 0.27] * len(values), "o", color=GREY, markersize=3.5, alpha=0.8)
            _remark(axes, place, mean)
        _legend(axes, [("mean, 95 % interval", "D", BLUE, BLUE), ("one seed", "o", GREY, GREY)])

    return _horizontal(name, caption, list(rows), axis, draw, synthetic=synthetic)


def ablation_bars(
    rows: Sequence[tuple[str, Estimate | str]], baseline: str, *, name: str, caption: str, synthetic: bool = False
) -> Figure:
    """Draw differences from the baseline with their intervals, filled where the interval leaves out 0.

    Args:
        rows: from top to bottom, the change and its difference in points of mean mAP, paired by seed, or why there is
            none (`not run`).
        baseline: name of the row that the others are compared with.
        name: of the figure's file.
        caption: of the figure.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.

    Raises:
        ValueError: no rows.
    """

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, (_, difference) in enumerate(rows):
            if isinstance(difference, Estimate):
                colour = BLUE if difference.mean > 0 else VERMILION
                # a single seed has no interval and so resolves nothing
                face = (colour, FILLED) if abs(difference.mean) > difference.half_width else "none"
                axes.barh(place, difference.mean, 0.55, facecolor=face, edgecolor=colour, linewidth=1)
                _interval(axes, place, difference, INK, width=1.0)
            _remark(axes, place, difference)
        _legend(axes, BAR_KEYS)

    axis = f"mean mAP: difference from {baseline} (points)"
    return _horizontal(name, caption, [label for label, _ in rows], axis, draw, synthetic=synthetic)


def curves(
    lines: Mapping[str, Mapping[float, Estimate | None]], *, name: str, caption: str, synthetic: bool = False
) -> Figure:
    """Draw mAP over tIoU with a band for each 95 % interval.

    Args:
        lines: mAP in percent by tIoU (None leaves a gap) by label, in the order of the legend, at most 16.
        name: of the figure's file.
        caption: of the figure.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.

    Raises:
        ValueError: no lines, or more than 16.
    """
    _refuse_empty(name, lines)
    if len(lines) > len(LINES):
        raise ValueError(f"{name}: {len(lines)} lines cannot be told apart; {len(LINES)} can")

    def draw(axes: Axes) -> None:
        for (label, line), (colour, marker, dash) in zip(lines.items(), LINES, strict=False):
            tious, values = list(line), [value or Estimate(math.nan) for value in line.values()]
            means, halves = np.array([(value.mean, value.half_width) for value in values]).T
            # the edge shows the interval of a value between gaps
            axes.fill_between(tious, means - halves, means + halves, color=colour, alpha=0.16, linewidth=1)
            name = textwrap.fill(label, KEY)
            axes.plot(tious, means, color=colour, marker=marker, linestyle=dash, markersize=4.5, label=name)
        axes.set_xticks(sorted({tiou for line in lines.values() for tiou in line}))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.set_xlabel("tIoU")
        axes.set_ylabel("mAP (%)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, labelspacing=0.7, handlelength=2.6)

    taller = sum(len(textwrap.wrap(label, KEY)) for label in lines) - 12
    return page_figure(name, caption, CURVES_HEIGHT + max(taller, 0) * 0.2, draw, synthetic=synthetic)


def heat_map(
    rows: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    *,
    name: str,
    caption: str,
    axis: str,
    synthetic: bool = False,
) -> Figure:
    """Draw a value for each row and column as a colour, and as a number where there is room.

    Args:
        rows: values by label from top to bottom, one for each column.
        columns: their names from left to right.
        name: of the figure's file.
        caption: of the figure.
        axis: the metric, with its unit.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.

    Raises:
        ValueError: no rows.
    """
    _refuse_empty(name, rows)
    labels, names = [_cut(label) for label in rows], [_cut(column) for column in columns]
    below = LETTER * max(map(len, names), default=0) if len(columns) <= MOST_NAMED else 0.2

    def draw(axes: Axes) -> None:
        values = np.array(list(rows.values()), dtype=np.float64)
        # drawn as rectangles: a picture inside the picture is none that a page may load
        image = axes.pcolormesh(
            np.arange(len(columns)), np.arange(len(rows)), values, cmap="viridis", vmin=0, shading="nearest"
        )
        axes.invert_yaxis()
        axes.set_yticks(range(len(rows)), labels)
        axes.spines[:].set_visible(False)
        if len(columns) <= MOST_NAMED:
            axes.set_xticks(range(len(columns)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
            middle = LEGIBLE * float(np.nanmax(values))
            for (row, column), value in np.ndenumerate(values):
                ink = "black" if value > middle else "white"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink, fontsize=6)
        else:
            axes.set_xticks([])
            axes.set_xlabel(f"{len(columns)} classes")
        assert axes.figure is not None
        bar = axes.figure.colorbar(image, label=axis, shrink=0.6, pad=0.01)
        if bar.solids is not None:
            bar.solids.set_rasterized(False)

    return page_figure(name, caption, 0.19 * len(rows) + 0.7 + below, draw, synthetic=synthetic)


def _cut(label: str) -> str:
    """Return a label in one line of at most `KEY` letters."""
    line = " ".join(label.split())
    return line if len(line) <= KEY else f"{line[: KEY - 1]}…"


def _horizontal(
    name: str,
    caption: str,
    labels: Sequence[str],
    axis: str,
    draw: Callable[[Axes], None],
    *,
    remarks: str = "",
    synthetic: bool = False,
) -> Figure:
    """Draw labelled rows, the first on top."""
    _refuse_empty(name, labels)
    wrapped = [textwrap.wrap(label, LABEL) or [""] for label in labels]

    def rows(axes: Axes) -> None:
        draw(axes)
        axes.set_yticks(range(len(labels)), ["\n".join(lines) for lines in wrapped])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.margins(x=0.06)
        axes.set_xlabel(textwrap.fill(axis, 80))
        if remarks:
            axes.annotate(remarks, (1.02, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=8)

    height = AROUND + sum(max(ROW, LINE * (len(lines) + 1)) for lines in wrapped)
    return page_figure(name, caption, height, rows, synthetic=synthetic)


def _refuse_empty(name: str, rows: Sized) -> None:
    if not rows:
        raise ValueError(f"{name}: nothing to draw")


def _interval(axes: Axes, place: int, value: Estimate, colour: str, width: float = 1.6) -> None:
    if not math.isnan(half := value.half_width):
        axes.errorbar(
            value.mean, place, xerr=half, color=colour, linewidth=width, capsize=2.5, capthick=width, zorder=2
        )


def _remark(axes: Axes, place: int, value: Estimate | str) -> None:
    """Write a value, or why there is none, to the right of a row."""
    axes.annotate(
        str(value).replace("-", "−"), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5,
        annotation_clip=False,
    )  # fmt: skip


def _legend(axes: Axes, keys: Sequence[tuple[str, str, str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=edge, markerfacecolor=face, label=label)
        for label, marker, edge, face in keys
    ]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.4, handletextpad=0.2,
        columnspacing=1.4,
    )  # fmt: skip
