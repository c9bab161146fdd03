"""Chart of the robustness study."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from harness.seed_statistics import mean_and_half_width

if TYPE_CHECKING:
    from harness.studies.robustness import Measured

# colours that are readable on white and on black
MARKS = (("#d95f02", "o"), ("#1b9e77", "s"), ("#7570b3", "^"), ("#e7298a", "D"))


INK = "#7f7f7f"


def render_figure(measured: Measured) -> bytes:
    """Accuracy against the rate of noise in the first case, as SVG: the same numbers give the same bytes."""
    import matplotlib
    from matplotlib.figure import Figure

    case, accuracies = next(iter(measured.accuracies.items()))
    with matplotlib.rc_context({"svg.hashsalt": "robustness", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for place, (loss, (colour, marker)) in enumerate(zip(accuracies, MARKS, strict=True)):
            means, halves = zip(*map(mean_and_half_width, accuracies[loss].values()), strict=True)
            # side by side, so that no interval hides another
            places = [rate + 0.006 * (place - 1.5) for rate in case.rates]
            axes.errorbar(places, means, halves, color=colour, marker=marker, markersize=5, capsize=3, label=loss)
        axes.set_xticks(case.rates)
        axes.set_xlabel("share of positive pairs that are wrong", color=INK)
        axes.set_ylabel("accuracy on clean held-out features (%)", color=INK)
        title = f"Planted clusters, no video: {measured.seeds} seeds, 95 % intervals"
        axes.set_title(title, fontsize=10, color=INK)
        axes.tick_params(colors=INK)
        axes.grid(axis="y", color=INK, alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.legend(frameon=False, labelcolor="linecolor")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue()
