"""Timelines of videos: ground truth, detections, attention and class activation of one or several runs."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.charts.figure import Figure
from harness.charts.style import BLUE, GREEN, GREY, INK, PAGE, SHARED, SYNTHETIC, VERMILION, WIDTH, themed, to_svg
from harness.charts.training import printable_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Numbers = NDArray[np.float64]
# inches: labels on the left, a bar, a curve, a key frame, the space between rows and around them
LABELS, BAR, CURVE, PICTURE, GAP, TOP, BOTTOM, HEADING = 1.55, 0.16, 0.42, 0.5, 0.07, 0.4, 0.42, 0.27
RIGHT = 0.2
SECONDS_PER_WIDTH, WIDEST = 300.0, 40.0  # a longer video gets a wider drawing, which scrolls
LANES, MOST_POINTS = 4, 4_000
NAME, TITLE = 24, 100  # letters


@dataclass(frozen=True, eq=False)
class Bars:
    """Intervals of one class.

    Args:
        start: seconds.
        end: seconds.
        score: of a detection, from 0 (faint) to 1.
        hit: whether a detection is a true positive.
    """

    start: Numbers
    end: Numbers
    score: Numbers
    hit: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Curve:
    """Values from 0 to 1 over time.

    Args:
        time: seconds of the middle of each snippet.
        value: of each snippet.
    """

    time: Numbers
    value: Numbers


@dataclass(frozen=True, eq=False)
class Pictures:
    """Key frames of a video, evenly spaced from its beginning on.

    Args:
        images: `[n, height, width, 3]` RGB.
        step: seconds that each stands for.
    """

    images: NDArray[np.uint8]
    step: float


@dataclass(frozen=True, eq=False)
class Track:
    """Output of one run for a video.

    Args:
        title: of the run.
        detections: by class.
        attention: of the run.
        cas: by class.
        pseudo_labels: of the auxiliary branch by class, for a method that has one.
    """

    title: str
    detections: dict[str, Bars]
    attention: Curve | None
    cas: dict[str, Curve]
    pseudo_labels: dict[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Timeline:
    """Content of a video's timeline.

    Args:
        video: its name.
        truth: instances by class; an empty one has no ground truth.
        tracks: of the runs.
        start: first second that is shown.
        end: last second that is shown.
        tiou: of a hit.
        synthetic: whether the features were generated.
        pictures: key frames, None where there are none.
        judged: whether there is ground truth, so that detections are hits or misses.
    """

    video: str
    truth: dict[str, Bars]
    tracks: Sequence[Track]
    start: float
    end: float
    tiou: float
    synthetic: bool = False
    pictures: Pictures | None = None
    judged: bool = True


def timeline_figure(name: str, timeline: Timeline) -> Figure:
    """Draw a timeline for a page, readable on light and on dark ground.

    Args:
        name: of the figure's file.
        timeline: what to draw.
    """
    mark = f"{SYNTHETIC}: " if timeline.synthetic else ""
    runs = ", ".join(track.title for track in timeline.tracks)
    video = f"{mark}{printable_label(timeline.video, TITLE)}"
    caption = f"{video}: ground truth and {runs}; a hit has tIoU {timeline.tiou:g}"
    if not timeline.judged:
        caption = f"{video}: {runs}, without ground truth"
    return Figure(name, caption, themed(to_svg(lambda: _canvas(timeline), PAGE, "Creator")))


def timeline_png(timeline: Timeline, *, dark: bool = False) -> bytes:
    """Draw a timeline as PNG, on white or on a dark ground.

    Args:
        timeline: what to draw.
        dark: choose the dark ground.
    """
    import matplotlib

    ink, ground = ("#c9d1d9", "#11151a") if dark else ("#24292f", "white")
    settings = {key: ink if value == INK else value for key, value in (SHARED | PAGE).items()}
    settings |= {"savefig.transparent": False, "savefig.facecolor": ground, "axes.facecolor": ground}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        buffer = io.BytesIO()
        canvas = _canvas(timeline)
        dots = min(150.0, 30_000 / max(canvas.get_size_inches()))
        canvas.savefig(buffer, format="png", dpi=dots, metadata={"Software": None})
    return buffer.getvalue()


def _canvas(timeline: Timeline) -> Canvas:
    from matplotlib.figure import Figure as Canvas

    rows = _rows(timeline)
    span = max(timeline.end - timeline.start, 1e-3)
    width = LABELS + min(max(1.0, span / SECONDS_PER_WIDTH) * (WIDTH - LABELS), WIDEST)
    height = TOP + sum(row.height + GAP for row in rows) + BOTTOM
    figure = Canvas(figsize=(width, height))
    top = TOP
    mark = f"{SYNTHETIC}. " if timeline.synthetic else ""
    figure.text(0.05 / width, 1 - 0.2 / height, mark + printable_label(timeline.video, TITLE), fontweight="bold")
    if timeline.judged:
        _legend(figure, width, height, timeline)
    axes = None
    for row in rows:
        if row.draw is None:
            y = 1 - (top + row.height - 0.05) / height
            figure.text(0.05 / width, y, printable_label(row.label, TITLE), fontweight="bold", fontsize=8.5)
        else:
            axes = figure.add_axes(
                (LABELS / width, 1 - (top + row.height) / height, 1 - (LABELS + RIGHT) / width, row.height / height)
            )
            row.draw(axes)
            axes.set_xlim(timeline.start, timeline.start + span)
            axes.set_yticks([])
            axes.set_xticks([])
            axes.spines["left"].set_visible(False)
            axes.spines["bottom"].set_alpha(0.3)
            label = printable_label(row.label, NAME)
            axes.text(
                -0.1 / (width - LABELS), 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=8
            )
        top += row.height + GAP
    if axes is not None:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(max(5, int(width)), steps=[1, 2, 3, 5, 10]))
        axes.xaxis.set_major_formatter("{x:,.6g}")
        axes.spines["bottom"].set_alpha(1)
        axes.set_xlabel("seconds")
    return figure


@dataclass(frozen=True, eq=False)
class _Row:
    """Row of a timeline; one without `draw` is a heading."""

    label: str
    height: float
    draw: Any = None


def _rows(timeline: Timeline) -> list[_Row]:
    rows = []
    if timeline.pictures is not None:
        rows.append(_Row("key frames", PICTURE, functools.partial(_draw_pictures, timeline=timeline)))
    rows += [
        _Row(f"truth: {label}", BAR, lambda axes, bars=bars: _draw_bars(axes, bars, truth=True))
        for label, bars in timeline.truth.items()
    ] or [_Row("no instance in the ground truth" if timeline.judged else "no ground truth", HEADING)]
    for track in timeline.tracks:
        rows.append(_Row(track.title, HEADING))
        if not track.detections:
            rows.append(_Row("no detection", HEADING))
        for label, bars in track.detections.items():
            lanes = min(LANES, int(_lanes(bars).max(initial=0)) + 1)
            draw_bars = functools.partial(_draw_bars, bars=bars, judged=timeline.judged)
            rows.append(_Row(label, BAR * lanes, draw_bars))
        if track.attention is not None:
            rows.append(_Row("attention", CURVE, lambda axes, track=track: _draw_curve(axes, track.attention, GREY)))
        curves = [*track.cas.values(), *track.pseudo_labels.values()]
        top = max((float(curve.value.max(initial=0)) for curve in curves), default=1.0) or 1.0
        for label, curve in track.cas.items():
            draw = functools.partial(_draw_cas, curve=curve, pseudo=track.pseudo_labels.get(label), top=top)
            rows.append(_Row(f"CAS: {label}", CURVE, draw))
    return rows


def _legend(figure: Canvas, width: float, height: float, timeline: Timeline) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [Patch(color=GREY, label="instance")] if timeline.truth else []
    keys += [Patch(color=GREEN, label="hit"), Patch(facecolor="none", edgecolor=VERMILION, label="miss")]
    if any(track.pseudo_labels for track in timeline.tracks):
        keys.append(Line2D([], [], color=VERMILION, linewidth=1, linestyle="--", label="pseudo label"))
    figure.legend(
        handles=keys, loc="upper right", bbox_to_anchor=(1 - 0.05 / width, 1 - 0.02 / height), ncols=4,
        handlelength=1.2, columnspacing=1,
    )  # fmt: skip


def _lanes(bars: Bars) -> NDArray[np.int64]:
    """Return the lane of each bar: the first in which it overlaps no better one, else the last."""
    lane = np.zeros(len(bars.start), dtype=np.int64)
    placed: list[list[int]] = [[] for _ in range(LANES)]
    for index in np.argsort(-bars.score, kind="stable").tolist():
        free = (
            number
            for number, members in enumerate(placed)
            if not any(bars.start[index] < bars.end[m] and bars.end[index] > bars.start[m] for m in members)
        )
        lane[index] = next(free, LANES - 1)
        placed[lane[index]].append(index)
    return lane


def _draw_bars(axes: Axes, bars: Bars, truth: bool = False, judged: bool = True) -> None:
    lane = np.zeros(len(bars.start), dtype=np.int64) if truth else _lanes(bars)
    lanes = int(lane.max(initial=0)) + 1
    for index, (start, end) in enumerate(zip(bars.start, bars.end, strict=True)):
        hit = bool(bars.hit[index])
        strength = float(0.3 + 0.7 * bars.score[index])
        look: dict[str, Any] = {"color": GREY} if truth else {"color": GREEN if judged else BLUE, "alpha": strength}
        if not truth and judged and not hit:
            look = {"facecolor": "none", "edgecolor": VERMILION, "alpha": strength, "linewidth": 1.1}
        axes.barh(lanes - 1 - lane[index], end - start, 0.75, start, **look)
    axes.set_ylim(-0.5, lanes - 0.5)


def _draw_pictures(axes: Axes, timeline: Timeline) -> None:
    """Draw as many key frames side by side as fit, each that of the middle of its stretch."""
    pictures = timeline.pictures
    assert pictures is not None
    width = axes.bbox.width / axes.bbox.height * pictures.images.shape[1]  # of the row, in pixels of the pictures
    count = max(1, round(width / pictures.images.shape[2]))
    span = max(timeline.end - timeline.start, 1e-3)
    middles = timeline.start + span * (np.arange(count) + 0.5) / count
    chosen = np.clip(middles // pictures.step, 0, len(pictures.images) - 1).astype(np.int64)
    row = np.concatenate(list(pictures.images[chosen]), axis=1)
    axes.imshow(row, extent=(timeline.start, timeline.start + span, 0, 1), aspect="auto", interpolation="bilinear")


def _draw_cas(axes: Axes, curve: Curve, pseudo: Curve | None, top: float) -> None:
    """Draw a class's activation, and the pseudo labels dashed, up to the highest value of the run in the video."""
    _draw_curve(axes, curve, BLUE)
    axes.set_ylim(0, 1.02 * top)
    axes.text(1, 1, f"{top:.2g}", transform=axes.transAxes, ha="right", va="top", fontsize=7)
    if pseudo is not None:
        kept = _thinned(pseudo.value)
        axes.plot(pseudo.time[kept], pseudo.value[kept], color=VERMILION, linewidth=1, linestyle="--")


def _draw_curve(axes: Axes, curve: Curve, colour: str) -> None:
    kept = _thinned(curve.value)
    axes.fill_between(curve.time[kept], curve.value[kept], color=colour, alpha=0.25, linewidth=0)
    axes.plot(curve.time[kept], curve.value[kept], color=colour, linewidth=0.9)
    axes.set_ylim(0, 1.02)


def _thinned(values: Numbers) -> NDArray[np.int64]:
    """Return indices of a curve's points: of a long one the least and the greatest of each stretch."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    stretches = np.array_split(np.arange(len(values)), MOST_POINTS // 2)
    found = [(part[values[part].argmin()], part[values[part].argmax()]) for part in stretches]
    return np.unique(np.array(found))
