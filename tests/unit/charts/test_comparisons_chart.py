"""Figures read back from their SVG: what is drawn where, on which ground it reads, and what is refused."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from harness.charts import style as figures
from harness.charts.comparisons import Compared, ablation_bars, curves, dumbbell, intervals
from harness.charts.figure import Figure
from harness.seed_statistics import Estimate

WORDS: dict[str, Any] = {"name": "figure", "caption": "What it shows"}
LONG = "Zhang & Zhao with everything on, pseudo labels weighted by exp(-D), no gradient through it <T = 750>"
KINDS: dict[str, Callable[..., Figure]] = {
    "intervals": lambda label, **words: intervals({label: [21.0, 24.0, 24.0]}, **WORDS, **words),
    "curves": lambda label, **words: curves({label: {0.1: Estimate(50), 0.5: Estimate(20)}}, **WORDS, **words),
    "bars": lambda label, **words: ablation_bars([(label, Estimate(2.0, 1.0, 3))], "base", **WORDS, **words),
    "dumbbell": lambda label, **words: dumbbell([Compared(label, 42.0, Estimate(40.0), True)], **WORDS, **words),
}


def root(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(figure.svg)


def tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def texts(figure: Figure) -> list[str]:
    return ["".join(element.itertext()) for element in root(figure).iter() if tag(element) == "text"]


def style(element: ElementTree.Element) -> dict[str, str]:
    return dict(part.strip().split(": ") for part in element.get("style", "").split(";") if part.strip())


def marks(figure: Figure) -> list[tuple[float, float, dict[str, str]]]:
    """Markers of the data: x, y and style; those of the axes and the legend left out."""
    found = []

    def walk(element: ElementTree.Element) -> None:
        for child in element:
            name = child.get("id", "")
            if not re.match(r"matplotlib\.axis|legend", name):
                if tag(child) == "use":
                    found.append((float(child.get("x", "nan")), float(child.get("y", "nan")), style(child)))
                walk(child)

    walk(root(figure))
    return found


def scale(figure: Figure, axis: int) -> Callable[[float], float]:
    """From values to coordinates, as the ticks of an axis say."""
    places, values = [], []
    for group in root(figure).iter():
        if re.match(rf"{'xy'[axis]}tick_", group.get("id", "")):
            uses = [element.get("xy"[axis], "") for element in group.iter() if tag(element) == "use"]
            lines = [element.get("d", "").split()[1 + axis] for element in group.iter() if tag(element) == "path"]
            places.append(float((uses + lines)[0]))
            text = next("".join(element.itertext()) for element in group.iter() if tag(element) == "text")
            values.append(float(text.replace("−", "-")))
    slope, start = np.polyfit(values, places, 1)
    assert np.allclose(np.polyval([slope, start], values), places, atol=0.02)
    return lambda value: float(slope * value + start)


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_a_dumbbell_puts_both_values_where_the_axis_says() -> None:
    figure = dumbbell(
        [Compared("A", 42.6, Estimate(31.0, 2.5, 3), True), Compared("B", 30.0, "not run", True)], **WORDS
    )
    x = scale(figure, 0)
    by_colour = {
        colour: sorted(place for place, _, its in marks(figure) if its.get("fill") == colour)
        for colour in (figures.VERMILION, figures.BLUE)
    }
    assert by_colour[figures.VERMILION] == pytest.approx([x(30.0), x(42.6)], abs=0.05)
    # the mean; caps of the interval are strokes without a fill of their own
    assert x(31.0) == pytest.approx(by_colour[figures.BLUE][len(by_colour[figures.BLUE]) // 2], abs=0.05)
    caps = [place for place, _, its in marks(figure) if its.get("stroke") == figures.BLUE]
    assert min(caps) == pytest.approx(x(28.5), abs=0.05)
    assert max(caps) == pytest.approx(x(33.5), abs=0.05)
    assert {"31.0 ± 2.5", "not run", "published", "measured, 95 % interval"} <= set(texts(figure))


def test_what_is_not_comparable_is_hollow_and_grey_and_the_legend_says_so() -> None:
    figure = dumbbell([Compared("A", 42.6, Estimate(31.0, 2.5, 3), False)], **WORDS)
    drawn = [its for _, _, its in marks(figure)]
    assert {its.get("stroke") for its in drawn} == {figures.GREY}
    assert sum(its.get("fill-opacity") == "0" for its in drawn) == 2
    assert {"published, not comparable", "measured, not comparable"} <= set(texts(figure))
    assert "published" not in texts(figure)


def test_intervals_show_the_mean_its_interval_and_every_seed() -> None:
    # by hand: mean 23, deviation sqrt(3), t(0.975, 2) = 4.302653, half width 4.302653 * sqrt(3) / sqrt(3)
    figure = intervals({"A": [21.0, 24.0, 24.0], "B": [30.0]}, **WORDS)
    x = scale(figure, 0)
    seeds = sorted(place for place, _, its in marks(figure) if its.get("fill") == figures.GREY)
    assert seeds == pytest.approx([x(21), x(24), x(24), x(30)], abs=0.05)
    blue = sorted(place for place, _, its in marks(figure) if its.get("stroke") == figures.BLUE)
    assert blue == pytest.approx([x(23 - 4.302653), x(23), x(23 + 4.302653), x(30)], abs=0.05)
    assert {"23.0 ± 4.3", "30.0"} <= set(texts(figure))


def test_rows_stand_in_the_order_given() -> None:
    figure = ablation_bars([(label, Estimate(1.0)) for label in "BCA"], "base", **WORDS)
    labels = [element for element in root(figure).iter() if tag(element) == "text" and element.text in set("ABC")]
    heights = {element.text: float(element.get("y") or transform(element)[1]) for element in labels}
    assert sorted(heights, key=lambda label: heights[label]) == ["B", "C", "A"]


def transform(element: ElementTree.Element) -> tuple[float, float]:
    match = re.search(r"translate\(([\d.]+)[ ,]+([\d.]+)\)", element.get("transform", ""))
    assert match
    return float(match[1]), float(match[2])


def test_bars_are_filled_only_where_the_interval_leaves_out_zero() -> None:
    rows: list[tuple[str, Estimate | str]] = [
        ("worse", Estimate(-4.6, 1.6, 6, signed=True)), ("better", Estimate(1.5, 1.4, 3, signed=True)),
        ("unclear", Estimate(-0.7, 0.7, 6, signed=True)), ("one seed", Estimate(-0.5, math.nan, 1, signed=True)),
        ("later", "not run"),
    ]  # fmt: skip
    figure = ablation_bars(rows, "ACM-Net", **WORDS)
    bars = [
        style(path)
        for group in root(figure).iter()
        if re.fullmatch(r"patch_\d+", group.get("id", ""))
        for path in group
        if style(path).get("stroke") in (figures.BLUE, figures.VERMILION)
    ]
    assert [(bar["stroke"], bar["fill"]) for bar in bars] == [
        (figures.VERMILION, figures.VERMILION), (figures.BLUE, figures.BLUE), (figures.VERMILION, "none"),
        (figures.VERMILION, "none"),
    ]  # fmt: skip
    assert {"−4.6 ± 1.6", "+1.5 ± 1.4", "not run", "interval leaves out 0"} <= set(texts(figure))
    assert "mean mAP: difference from ACM-Net (points)" in texts(figure)


def test_curves_pass_through_their_values_and_a_missing_one_is_a_gap() -> None:
    values = [Estimate(57.4, 3.2, 3), None, Estimate(40.8, 2.4, 3), Estimate(30.5, 3.0, 3)]
    figure = curves({"A": dict(zip([0.1, 0.2, 0.3, 0.4], values, strict=True))}, **WORDS)
    x, y = scale(figure, 0), scale(figure, 1)
    expected = [(x(0.1), y(57.4)), (x(0.3), y(40.8)), (x(0.4), y(30.5))]
    assert [(place, height) for place, height, _ in marks(figure)] == [  # type: ignore[comparison-overlap]
        (pytest.approx(place, abs=0.05), pytest.approx(height, abs=0.05)) for place, height in expected
    ]
    bands = [path for group in root(figure).iter() if "FillBetween" in group.get("id", "") for path in group.iter()]
    drawn = " ".join(path.get("d", "") for path in bands)
    heights = [float(height) for _, height in re.findall(r"[ML] (\S+) (\S+)", drawn)]
    assert min(heights) == pytest.approx(y(57.4 + 3.2), abs=0.05)
    assert max(heights) == pytest.approx(y(27.5), abs=0.05)


def test_lines_differ_by_more_than_colour() -> None:
    assert len(set(figures.LINES)) == len(figures.LINES)
    assert len({(marker, dash) for _, marker, dash in figures.LINES}) == len(figures.LINES)


@pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)
def test_the_same_bytes_whatever_the_users_matplotlib_is_set_to(draw: Callable[..., Figure]) -> None:
    first = draw(LONG)
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True, "font.size": 30, "svg.hashsalt": "x"}):
        assert draw(LONG) == first


@pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)
def test_it_reads_on_light_and_dark(draw: Callable[..., Figure]) -> None:
    figure = draw("A")
    assert figures.INK not in figure.svg
    assert "white" not in figure.svg
    assert "currentColor" in figure.svg
    light, dark = re.findall(r"svg\{color:(#\w{6})\}", figure.svg)
    # where a page shows it on the other ground than the reader's scheme says, it still reads
    for colour, own, other in ((light, "#ffffff", "#0d1117"), (dark, "#0d1117", "#ffffff")):
        assert contrast(colour, own) >= 4.5
        assert contrast(colour, other) >= 3
    used = set(re.findall(r"(?:stroke|fill): (#\w{6})", figure.svg))
    assert used
    for colour, ground in itertools.product(used, ("#ffffff", "#0d1117", "#11151a")):
        assert contrast(colour, ground) >= 3, colour
    # every word is in the reader's colour: none is left black, SVG's default
    assert all(style(e)["fill"] == "currentColor" for e in root(figure).iter() if tag(e) == "text")


@pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS)
def test_labels_are_whole_and_literal(draw: Callable[..., Figure]) -> None:
    label = LONG + " $x_1$ & ± — 特 " + 60 * "w"
    assert "".join(label.split()) in "".join("".join(texts(draw(label))).split())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dumbbell"])
def test_a_synthetic_figure_says_so_in_the_drawing_and_in_its_caption(kind: str) -> None:
    real, synthetic = KINDS[kind]("A"), KINDS[kind]("A", synthetic=True)
    assert synthetic.caption == f"Synthetic data: {real.caption}"
    assert "Synthetic data" in texts(synthetic)
    assert "Synthetic data" not in texts(real)


def test_twenty_five_rows_are_apart() -> None:
    figure = dumbbell([Compared(f"method {i}", 20.0 + i, Estimate(21.0 + i), True) for i in range(25)], **WORDS)
    heights = sorted({height for _, height, its in marks(figure) if its.get("fill") == figures.VERMILION})
    assert len(heights) == 25
    # twice the size of the letters, in points
    assert np.diff(heights).min() > 15


@pytest.mark.parametrize(
    "draw",
    [
        lambda: dumbbell([], **WORDS),
        lambda: intervals({}, **WORDS),
        lambda: intervals({"A": []}, **WORDS),
        lambda: curves({}, **WORDS),
        lambda: curves({str(i): {0.1: Estimate(1.0)} for i in range(17)}, **WORDS),
        lambda: ablation_bars([], "base", **WORDS),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(draw: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"^figure: "):
        draw()
