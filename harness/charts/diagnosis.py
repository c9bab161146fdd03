"""Charts of a diagnosis: kinds of detections by slab, gains, and missed instances and AP by bucket."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.charts.comparisons import CURVES_HEIGHT
from harness.charts.figure import Figure
from harness.charts.style import BLUE, GREEN, GREY, LINES, PURPLE, VERMILION, page_figure
from harness.seed_statistics import mean_and_half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# letters of a line of the key, its height in inches
KEY, LINE = 90, 0.17
# one colour a kind in all charts; grey for what no instance is near
KIND_COLOURS = {
    "true positive": GREEN, "double detection": "#56b4e9", "wrong label": PURPLE, "localization": BLUE,
    "confusion": VERMILION, "background": GREY,
}  # fmt: skip


def slab_chart(name: str, caption: str, shares: Mapping[str, Sequence[float]], *, synthetic: bool = False) -> Figure:
    """Draw the share of each kind in each slab of the best detections, stacked.

    Args:
        name: of the figure's file.
        caption: of the figure.
        shares: percent by kind, one value a slab; NaN for a slab without detections.
        synthetic: whether the features were generated.
    """

    def draw(axes: Axes) -> None:
        bottom = np.zeros(len(next(iter(shares.values()))))
        places = np.arange(1, len(bottom) + 1)
        for kind, values in shares.items():
            heights = np.nan_to_num(np.asarray(values, dtype=np.float64))
            axes.bar(places, heights, 0.8, bottom, color=KIND_COLOURS[kind], label=kind)
            bottom = bottom + heights
        axes.set_xticks(places, [f"{place}G" for place in places])
        axes.set_xlabel("detections of each class by rank, G a slab (G: instances of the class)")
        axes.set_ylabel("share (%)")
        axes.set_ylim(0, 100)
        axes.grid(axis="y")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1, 1))

    return page_figure(name, caption, CURVES_HEIGHT, draw, synthetic=synthetic)


def grouped_bars(
    name: str,
    caption: str,
    axis: str,
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    synthetic: bool = False,
) -> Figure:
    """Draw bars side by side in each group, with 95 % intervals over seeds.

    Args:
        name: of the figure's file.
        caption: of the figure.
        axis: name of the values, with their unit.
        groups: one value a seed by group (along the axis) and by system; an empty list draws nothing.
        synthetic: whether the features were generated.
    """
    systems = list(dict.fromkeys(system for members in groups.values() for system in members))
    keys = {system: textwrap.fill(system, KEY) for system in systems}
    lines = sum(key.count("\n") + 1 for key in keys.values()) if len(systems) > 1 else 0
    width = 0.8 / len(systems)

    def draw(axes: Axes) -> None:
        for number, (system, (colour, _, _)) in enumerate(zip(systems, LINES * len(systems), strict=False)):
            found = [members.get(system, ()) for members in groups.values()]
            shown = [(place, *mean_and_half_width(values)) for place, values in enumerate(found) if len(values)]
            places, means, halves = (np.array(column) for column in zip(*shown, strict=True))
            at = places + (number - (len(systems) - 1) / 2) * width
            axes.bar(at, means, 0.9 * width, color=colour, alpha=0.85, label=keys[system])
            if not np.isnan(halves).all():
                axes.errorbar(at, means, halves, fmt="none", ecolor=GREY, capsize=2, linewidth=1)
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set_ylabel(axis)
        axes.grid(axis="y")
        if len(systems) > 1:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1))

    return page_figure(name, caption, CURVES_HEIGHT + LINE * lines, draw, synthetic=synthetic)
