"""Chart of a run's training: loss terms by step, the memory bank and a method's other diagnostics by epoch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from harness.charts.style import BLUE, INK, PAGE, VERMILION, themed, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOTAL, WEIGHT = "total", "pseudo_label_weight"
FILL, WITHIN, BETWEEN = "memory_fill", "memory_within", "memory_between"
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "diagnostics", "savefig.facecolor": "white", "font.size": 8, "axes.titlesize": 8,
    "axes.labelsize": 7, "xtick.labelsize": 7, "ytick.labelsize": 7,
}  # fmt: skip
RAW, MARK, SOFT = "#9ecae1", "#d95f02", "#444444"
LINES = (("#08519c", "o"), ("#a50f15", "s"))
# inches: the figure, a panel's height and the space below it, a line of text, a row and a letter of a heat map
WIDTH, PANEL, GAP, LINE, ROW, LETTER = 11.0, 1.25, 0.58, 0.18, 0.125, 0.053
TALLEST_HEAT = 10.0
COLUMNS, HEAT_COLUMNS, HEAT_ROWS = 4, 3, 40
# letters that fit
NAME, PANEL_TITLE, TITLE, CAPTION = 30, 40, 110, 165
# of a curve; a panel is 150 points wide
MOST_POINTS = 1_500

Numbers = NDArray[np.float64]


class ChartRun(NamedTuple):
    """Facts of a run that its figure shows.

    Args:
        id: of the run.
        heading: words on top.
        classes: names of the classes.
        slots: of a class in the memory bank; 0 for a method without one.
    """

    id: str
    heading: str
    classes: Sequence[str]
    slots: int


class _Content(NamedTuple):
    """Numbers to draw, by name.

    Args:
        terms: `[steps]` each.
        curves: panels of `[epochs]` each, by label.
        tables: `[epochs, rows]` each.
        left_out: names without numbers to draw.
    """

    steps_per_epoch: int
    epochs: int
    terms: dict[str, Numbers]
    curves: dict[str, dict[str, Numbers]]
    tables: dict[str, Numbers]
    left_out: list[str]

    @property
    def start(self) -> int | None:
        """First epoch (from 0) that ends with a filled memory bank, None if there is none."""
        filled = np.nansum(self.tables.get(FILL, np.zeros((0, 0))), axis=1) > 0
        return int(filled.argmax()) if filled.any() else None


def draw(history: Mapping[str, Any], run: ChartRun) -> bytes:
    """Draw the figure as SVG: the same input gives the same bytes.

    A value that is null or not finite is a gap. A name without numbers is left out, and the caption lists it.

    Args:
        history: `History.to_json` of a run.
        run: whose figure it is.
    """
    return to_svg(lambda: _figure(_content(history), run), SETTINGS).encode()


def draw_for_page(history: Mapping[str, Any], run: ChartRun) -> str:
    """Draw the figure as SVG that is readable on light and on dark ground.

    Args:
        history: `History.to_json` of a run.
        run: whose figure it is.
    """
    inks = {key: value for key, value in PAGE.items() if value == INK}
    svg = to_svg(lambda: _figure(_content(history), run), SETTINGS | inks | {"savefig.transparent": True})
    for dark, legible in zip((SOFT, *(colour for colour, _ in LINES)), (INK, BLUE, VERMILION), strict=True):
        svg = svg.replace(dark, legible)
    return themed(svg)


def _content(history: Mapping[str, Any]) -> _Content:
    steps_per_epoch, count = history["steps_per_epoch"], len(history["steps"][TOTAL])
    epochs = count // steps_per_epoch
    # the total first, the weight (no loss) last
    names = sorted(history["steps"], key=lambda name: (name != TOTAL, name == WEIGHT))
    terms = {name: _numbers(history["steps"][name], count) for name in names}
    others = {name: _numbers(values, epochs) for name, values in history["epochs"].items()}
    if (weight := terms.get(WEIGHT)) is not None:
        # exp(-D) is above 0: the zeros before the first pseudo label stand for no value
        weight[~np.logical_or.accumulate(weight > 0)] = np.nan
        terms[WEIGHT] = _numbers(weight, count)
    curves: dict[str, dict[str, Numbers]] = {}
    for name, values in others.items():
        if values is not None and values.ndim == 1:
            panel, label = {
                WITHIN: ("mean cosine of the memory", "slots to their class's centre"),
                BETWEEN: ("mean cosine of the memory", "centres of different classes"),
            }.get(name, (name, name))
            curves.setdefault(panel, {})[label] = values
    return _Content(
        steps_per_epoch,
        epochs,
        {name: values for name, values in terms.items() if values is not None},
        curves,
        {name: values for name, values in others.items() if values is not None and values.ndim == 2},
        [name for name, values in (*terms.items(), *others.items()) if values is None],
    )


def _numbers(values: Sequence[Any] | Numbers, length: int) -> Numbers | None:
    """Return `[length]` or `[length, rows]`, NaN where there is no finite number, or None if there is none at all."""
    width = next((len(value) for value in values if isinstance(value, list)), None)
    rows = values if width is None else [[None] * width if value is None else value for value in values]
    try:
        numbers = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers if len(numbers) == length and numbers.ndim <= 2 and not np.isnan(numbers).all() else None


def _figure(content: _Content, run: ChartRun) -> Figure:
    from matplotlib.figure import Figure

    lines = _caption(content, run)
    header = (len(lines) + 1.5) * LINE
    below = header + -(-(len(content.terms) + len(content.curves)) // COLUMNS) * (PANEL + GAP)
    heats = [_HeatSize.of(table.shape[1]) for table in content.tables.values()]
    height = below + sum(heat.rows * heat.row + GAP for heat in heats)
    figure = Figure(figsize=(WIDTH, height))

    def place(left: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((left / WIDTH, 1 - (top + high) / height, wide / WIDTH, high / height))

    def panel(number: int) -> Axes:
        row, column = divmod(number, COLUMNS)
        cell = WIDTH / COLUMNS
        return place(column * cell + 0.52, header + row * (PANEL + GAP), cell - 0.64, PANEL)

    for number, line in enumerate(lines):
        look: dict[str, Any] = {"color": SOFT} if number else {"fontsize": 11, "fontweight": "bold"}
        figure.text(0.1 / WIDTH, 1 - (number + 0.8) * LINE / height, line, va="center", **look)
    for number, (name, values) in enumerate(content.terms.items()):
        _draw_term(panel(number), name, values, content, f"term-{number}")
    for number, (name, curves) in enumerate(content.curves.items()):
        _draw_curves(panel(len(content.terms) + number), name, curves, content, f"curve-{number}")
    for number, ((name, table), heat) in enumerate(zip(content.tables.items(), heats, strict=True)):
        _draw_heat(place, below, heat, name, table, content, run, f"heat-{number}")
        below += heat.rows * heat.row + GAP
    return figure


def _caption(content: _Content, run: ChartRun) -> list[str]:
    """Return the title and the lines below it, which explain the marks."""
    lines = [printable_label(run.heading, TITLE), printable_label(f"Run {run.id}", CAPTION)]
    text = (
        f"Losses before weighting; {TOTAL} is what is minimised. Thin: each step. Thick: mean of an epoch of "
        f"{content.steps_per_epoch} step(s)."
    )
    if content.start is not None:
        text += f" Dashed: the memory bank starts to build (epoch {content.start + 1})."
    lines += textwrap.wrap(text, CAPTION)
    if content.left_out:
        names = ", ".join(printable_label(name, NAME) for name in content.left_out)
        lines += textwrap.wrap(f"Not drawn, for want of a number or an equal list a step or epoch: {names}", CAPTION)
    return lines


def printable_label(text: object, longest: int) -> str:
    """Return text that an SVG can hold, cut to a length."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def _draw_term(axes: Axes, name: str, values: Numbers, content: _Content, gid: str) -> None:
    steps = np.arange(1, len(values) + 1)
    means = values.reshape(content.epochs, -1).mean(axis=1)
    middles = steps.reshape(content.epochs, -1).mean(axis=1)
    kept = _extremes(values)
    axes.plot(steps[kept], values[kept], color=RAW, linewidth=0.6, gid=f"{gid}-raw")
    colour, marker = LINES[0]
    axes.plot(middles, means, color=colour, marker=marker, markersize=1.5, linewidth=1.2, gid=f"{gid}-mean")
    if name == WEIGHT:
        axes.set_ylim(0, 1)
    axes.set_title(printable_label(f"{name}, mean exp(-D)" if name == WEIGHT else name, PANEL_TITLE))
    _finish(axes, "step", content, gid)


def _extremes(values: Numbers) -> NDArray[np.int64]:
    """Return indices of a curve's points: of a long one the least, greatest and one missing value of each stretch."""
    width = -(-3 * len(values) // MOST_POINTS)
    if width <= 3:
        return np.arange(len(values))
    # padded with the last value: of equal values the first is found
    stretches = np.append(values, np.full(-len(values) % width, values[-1])).reshape(-1, width)
    gaps = np.isnan(stretches)
    places = [
        np.where(gaps, np.inf, stretches).argmin(axis=1),
        np.where(gaps, -np.inf, stretches).argmax(axis=1),
        gaps.argmax(axis=1),
    ]
    return np.unique(np.stack(places) + np.arange(0, stretches.size, width))


def _draw_curves(axes: Axes, name: str, curves: dict[str, Numbers], content: _Content, gid: str) -> None:
    for number, ((label, values), (colour, marker)) in enumerate(zip(curves.items(), LINES, strict=False)):
        axes.plot(
            np.arange(1, content.epochs + 1), values, color=colour, marker=marker, markersize=1.5, linewidth=1,
            label=label, gid=f"{gid}-{number}",
        )  # fmt: skip
    axes.set_title(printable_label(name, PANEL_TITLE))
    _finish(axes, "epoch", content, gid)
    if name not in curves:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.45 * (high - low))  # room for the legend
        axes.legend(fontsize=6.5, edgecolor="none", loc="upper right", borderaxespad=0)


def _finish(axes: Axes, unit: str, content: _Content, gid: str, *, panel: bool = True) -> None:
    """Set up the axis of steps or epochs, counted from 1, mark the memory's start, and set up a panel's values."""
    from matplotlib.ticker import MaxNLocator

    an_epoch = content.steps_per_epoch if unit == "step" else 1
    count = content.epochs * an_epoch
    if content.start is not None:
        axes.axvline(content.start * an_epoch + 0.5, color=MARK, linestyle="--", linewidth=1, gid=f"{gid}-start")
    # the first step is often the highest: off the axis of a panel
    axes.set_xlim(0.5 - 0.02 * count * panel, count + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(unit, labelpad=1)
    if panel:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter("{x:,.6g}")


class _HeatSize(NamedTuple):
    """Layout of a table: `columns` heat maps side by side with `rows` rows each, `row` inches high."""

    columns: int
    rows: int
    row: float

    @classmethod
    def of(cls, count: int) -> _HeatSize:
        columns = min(HEAT_COLUMNS, -(-count // HEAT_ROWS))
        rows = -(-count // columns)
        return cls(columns, rows, min(ROW, TALLEST_HEAT / rows))


def _draw_heat(
    place: Callable[[float, float, float, float], Axes],
    top: float,
    size: _HeatSize,
    name: str,
    table: Numbers,
    content: _Content,
    run: ChartRun,
    gid: str,
) -> None:
    import matplotlib
    from matplotlib.colors import Normalize

    count = table.shape[1]
    names = [*run.classes, "background"]
    if count not in (len(names), len(names) - 1):
        names = [str(number) for number in range(1, count + 1)]
    labels = [printable_label(one, NAME) for one in names[:count]]
    cell = (WIDTH - 0.7) / size.columns
    letters = max(sum(1 + (east_asian_width(letter) in "WF") for letter in label) for label in labels)
    margin = min(0.2 + LETTER * letters, 0.6 * cell)
    title, low, high = printable_label(name, PANEL_TITLE), float(np.nanmin(table)), float(np.nanmax(table))
    colours = matplotlib.colormaps["viridis_r"].with_extremes(under="white", bad="#cccccc")
    if name == FILL:
        low, high = 0.5, max(high, run.slots, 1)  # an empty class is below the scale, so white
        title += ": filled slots of each class (white: none" + (f"; full: {run.slots})" if run.slots else ")")
    every = -(-ROW // size.row)  # one name for so many rows, so that names do not overlap
    for column, first in enumerate(range(0, count, size.rows)):
        shown = range(first, min(first + size.rows, count))
        axes = place(column * cell + margin, top, cell - margin - 0.1, len(shown) * size.row)
        image = axes.imshow(
            table[:, first : shown.stop].T, cmap=colours, norm=Normalize(low, high), gid=f"{gid}-{column}",
            extent=(0.5, content.epochs + 0.5, shown.stop - 0.5, first - 0.5), aspect="auto", interpolation="none",
        )  # fmt: skip
        # from the last, background
        ticks = [row for row in shown if (count - 1 - row) % every == 0]
        axes.set_yticks(ticks, [labels[row] for row in ticks], fontsize=6.5)
        axes.tick_params(axis="y", length=0)
        axes.set_title(title if first == 0 else "")
        _finish(axes, "epoch", content, f"{gid}-{column}", panel=False)
    bar = place(WIDTH - 0.65, top, 0.12, min(1.5, size.rows * size.row))
    bar.figure.colorbar(image, cax=bar)
