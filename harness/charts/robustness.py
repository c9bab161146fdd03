"""Chart of the robustness study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.charts.comparisons import CURVES_HEIGHT
from harness.charts.figure import Figure
from harness.charts.style import LINES, page_figure
from harness.seed_statistics import mean_and_half_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy_chart(accuracies: Mapping[str, Mapping[float, Sequence[float]]], seeds: int) -> Figure:
    """Draw accuracy against the rate of noise.

    Args:
        accuracies: percent, one for each seed, by loss and rate of noise.
        seeds: number of seeds.
    """

    def draw(axes: Axes) -> None:
        for place, ((loss, by_rate), (colour, marker, dash)) in enumerate(zip(accuracies.items(), LINES, strict=False)):
            means, halves = zip(*map(mean_and_half_width, by_rate.values()), strict=True)
            # side by side, so that no interval hides another
            places = [rate + 0.006 * (place - 1.5) for rate in by_rate]
            axes.errorbar(places, means, halves, color=colour, marker=marker, linestyle=dash, capsize=3, label=loss)
        axes.set_xticks(list(next(iter(accuracies.values()))))
        axes.set_xlabel("share of positive pairs that are wrong")
        axes.set_ylabel("accuracy on clean held-out features (%)")
        axes.set_title(f"Planted clusters, no video: {seeds} seeds, 95 % intervals")
        axes.grid(axis="y")
        axes.legend()

    caption = "Accuracy against the share of wrong positives"
    return page_figure("robustness", caption, CURVES_HEIGHT, draw, synthetic=True)
