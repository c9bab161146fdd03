"""Charts of the leaderboards: published beside measured, intervals over seeds, ablations, mAP over tIoU."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.charts.figure import Figure
from harness.charts.style import BLUE, GREY, INK, LINES, ROW, VERMILION, page_figure
from harness.seed_statistics import Estimate, mean_and_half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# inches: a line more of a row's label, the space above and below the rows, a chart of curves
LINE, AROUND, CURVES_HEIGHT = 0.14, 1.05, 3.6
# opacity of a bar, so that its interval can be read on it
FILLED = 0.45
# letters of a line of a label
LABEL, KEY = 36, 30


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


@dataclass(frozen=True)
class Seeds:
    """Row of an interval chart.

    Args:
        label: the method.
        values: mAP in percent, one for each seed.
    """

    label: str
    values: Sequence[float]


@dataclass(frozen=True)
class Curve:
    """Line of mAP over tIoU.

    Args:
        label: the method.
        tious: increasing.
        values: mAP in percent at each; None leaves a gap.
    """

    label: str
    tious: Sequence[float]
    values: Sequence[Estimate | None]


@dataclass(frozen=True)
class Bar:
    """Row of an ablation chart.

    Args:
        label: the change.
        difference: from the baseline in mAP points, paired by seed, or why there is none (`not run`).
    """

    label: str
    difference: Estimate | str


def dumbbell(rows: Sequence[Compared], *, name: str, caption: str, axis: str = "mAP (%)") -> Figure:
    """Draw published beside measured mAP, hollow and grey where the two are not comparable.

    Synthetic data have no published numbers, so there is no chart of them.

    Args:
        rows: top to bottom.
        name: of the figure's file.
        caption: of the figure.
        axis: the metric, with its unit.

    Raises:
        ValueError: no rows.
    """

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            colour, face = (BLUE, BLUE) if row.comparable else (GREY, "none")
            line = "-" if row.comparable else (0, (1, 2))
            if isinstance(row.measured, str):
                _remark(axes, place, row.measured)
            else:
                mean, half = row.measured.mean, row.measured.half_width
                if row.published is not None:
                    axes.plot([row.published, mean], [place, place], color=GREY, linewidth=1, linestyle=line, zorder=1)
                _interval(axes, place, mean, half, colour)
                # smaller and on top: both are seen where they agree
                axes.plot(mean, place, "o", color=colour, markerfacecolor=face, markersize=4.5, zorder=4)
                _remark(axes, place, str(row.measured))
            if row.published is not None:
                edge = VERMILION if row.comparable else GREY
                face = edge if row.comparable else "none"
                axes.plot(row.published, place, "D", color=edge, markerfacecolor=face, markersize=7, zorder=3)
        kinds = {row.comparable for row in rows}
        keys = []
        if True in kinds:
            keys += [("published", "D", VERMILION, VERMILION), ("measured, 95 % interval", "o", BLUE, BLUE)]
        if False in kinds:
            keys.append(("published, not comparable", "D", GREY, "none"))
            keys.append(("measured, not comparable", "o", GREY, "none"))
        _legend(axes, keys)

    return _horizontal(name, caption, [row.label for row in rows], axis, "measured", draw)


def intervals(
    rows: Sequence[Seeds], *, name: str, caption: str, axis: str = "mAP (%)", synthetic: bool = False
) -> Figure:
    """Draw mean and 95 % Student-t interval of each row, with a dot for each seed.

    Args:
        rows: top to bottom.
        name: of the figure's file.
        caption: of the figure.
        axis: the metric, with its unit.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.

    Raises:
        ValueError: no rows, or a row without seeds.
    """
    for row in rows:
        if not row.values:
            raise ValueError(f"{name}: {row.label!r} has no seeds")

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            mean, half = mean_and_half_width(row.values)
            _interval(axes, place, mean, half, BLUE)
            axes.plot(mean, place, "D", color=BLUE, zorder=3)
            # below its interval, so that neither hides the other
            axes.plot(row.values, [place + 0.27] * len(row.values), "o", color=GREY, markersize=3.5, alpha=0.8)
            _remark(axes, place, str(Estimate(mean, half, len(row.values))))
        _legend(axes, [("mean, 95 % interval", "D", BLUE, BLUE), ("one seed", "o", GREY, GREY)])

    return _horizontal(name, caption, [row.label for row in rows], axis, "", draw, synthetic=synthetic)


def ablation_bars(
    rows: Sequence[Bar], baseline: str, *, name: str, caption: str, axis: str = "mean mAP", synthetic: bool = False
) -> Figure:
    """Draw differences from the baseline with their intervals, filled where the interval leaves out 0.

    Args:
        rows: top to bottom.
        baseline: name of the row that the others are compared with.
        name: of the figure's file.
        caption: of the figure.
        axis: the metric.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.

    Raises:
        ValueError: no rows.
    """

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, row in enumerate(rows):
            if isinstance(row.difference, str):
                _remark(axes, place, row.difference)
                continue
            mean, half = row.difference.mean, row.difference.half_width
            colour = BLUE if mean > 0 else VERMILION
            # a single seed has no interval and so resolves nothing
            face = (colour, FILLED) if abs(mean) > half else "none"
            axes.barh(place, mean, 0.55, facecolor=face, edgecolor=colour, linewidth=1)
            _interval(axes, place, mean, half, INK, width=1.0)
            _remark(axes, place, str(row.difference))
        _legend(
            axes,
            [("interval leaves out 0", "s", GREY, (GREY, FILLED)), ("holds 0, or one seed", "s", GREY, "none")],
        )

    quantity = f"{axis}: difference from {baseline} (points)"
    return _horizontal(name, caption, [row.label for row in rows], quantity, "", draw, synthetic=synthetic)


def curves(lines: Sequence[Curve], *, name: str, caption: str, synthetic: bool = False) -> Figure:
    """Draw mAP over tIoU with a band for each 95 % interval.

    Args:
        lines: in the order of the legend, at most 16.
        name: of the figure's file.
        caption: of the figure.
        synthetic: whether the numbers come from generated features; the drawing and the caption then say so.

    Raises:
        ValueError: no lines, more than 16, or a line without as many values as tIoUs.
    """
    _refuse_empty(name, lines)
    if len(lines) > len(LINES):
        raise ValueError(f"{name}: {len(lines)} lines cannot be told apart; {len(LINES)} can")
    for line in lines:
        if len(line.tious) != len(line.values):
            raise ValueError(f"{name}: {line.label!r} has {len(line.tious)} tIoUs and {len(line.values)} values")

    def draw(axes: Axes) -> None:
        for line, (colour, marker, dash) in zip(lines, LINES, strict=False):
            values = [value or Estimate(math.nan) for value in line.values]
            means, halves = np.array([(value.mean, value.half_width) for value in values]).T
            # the edge shows the interval of a value between gaps
            axes.fill_between(line.tious, means - halves, means + halves, color=colour, alpha=0.16, linewidth=1)
            label = textwrap.fill(line.label, KEY)
            axes.plot(line.tious, means, color=colour, marker=marker, linestyle=dash, markersize=4.5, label=label)
        axes.set_xticks(sorted({tiou for line in lines for tiou in line.tious}))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.set_xlabel("tIoU")
        axes.set_ylabel("mAP (%)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, labelspacing=0.7, handlelength=2.6)

    taller = sum(len(textwrap.wrap(line.label, KEY)) for line in lines) - 12
    return page_figure(name, caption, CURVES_HEIGHT + max(taller, 0) * 0.2, draw, synthetic=synthetic)


def _horizontal(
    name: str,
    caption: str,
    labels: Sequence[str],
    axis: str,
    remarks: str,
    draw: Callable[[Axes], None],
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


def _refuse_empty(name: str, rows: Sequence[object]) -> None:
    if not rows:
        raise ValueError(f"{name}: nothing to draw")


def _interval(axes: Axes, place: int, mean: float, half: float, colour: str, width: float = 1.6) -> None:
    if not math.isnan(half):
        axes.errorbar(mean, place, xerr=half, color=colour, linewidth=width, capsize=2.5, capthick=width, zorder=2)


def _remark(axes: Axes, place: int, text: str) -> None:
    """Write words to the right of a row."""
    axes.annotate(
        text.replace("-", "−"), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5,
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
