"""Timelines read back from their SVG: bars, curves, long and empty videos, hostile names."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.charts import timeline as chart
from harness.charts.timeline import Bars, Curve, Pictures, Timeline, Track, timeline_figure, timeline_png
from harness.cli.show import _file_name as file_name

HOSTILE = '<script>alert("x")</script>|`a`\n\u202erevo & $x_1$'


def bars(*rows: tuple[float, float, float, bool]) -> Bars:
    start, end, score = (np.array([row[column] for row in rows], dtype=np.float64) for column in range(3))
    return Bars(start, end, score, np.array([row[3] for row in rows], dtype=bool))


def curve(length: int, seconds: float = 1.0) -> Curve:
    return Curve(seconds * (np.arange(length, dtype=np.float64) + 0.5), np.linspace(0, 0.4, length))


def track(title: str = "ACM-Net, seed 0", length: int = 60, **parts: Any) -> Track:
    found = bars((0, 10, 1.0, True), (2, 8, 0.5, False), (30, 40, 0.0, False))
    made: dict[str, Any] = {"detections": {"jump": found}, "attention": curve(length), "cas": {"jump": curve(length)}}
    return Track(title, **made | parts)


def video(**parts: Any) -> Timeline:
    made: dict[str, Any] = {
        "video": "v", "truth": {"jump": bars((0, 10, 1, True))}, "tracks": [track()], "start": 0.0, "end": 60.0,
        "tiou": 0.5,
    }  # fmt: skip
    return Timeline(**made | parts)


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]


def width(svg: str) -> float:
    return float(ElementTree.fromstring(svg).attrib["width"].removesuffix("pt"))


def test_rows_are_named_and_marked() -> None:
    figure = timeline_figure("t", video(tracks=[track(), track("RSKP, seed 1", pseudo_labels={"jump": curve(60)})]))
    words = texts(figure.svg)
    for expected in ("v", "truth: jump", "ACM-Net, seed 0", "RSKP, seed 1", "attention", "CAS: jump", "hit", "miss"):
        assert expected in words
    assert words.count("jump") == 2
    assert "pseudo label" in words
    assert "pseudo label" not in texts(timeline_figure("t", video()).svg)
    assert "a hit has tIoU 0.5" in figure.caption
    assert "currentColor" in figure.svg  # readable on both grounds


def test_synthetic_data_are_labelled() -> None:
    figure = timeline_figure("t", video(synthetic=True))
    assert any("Synthetic data" in text for text in texts(figure.svg))
    assert figure.caption.startswith("Synthetic data")


def test_overlapping_detections_have_lanes_by_score() -> None:
    found = bars((0, 10, 0.2, True), (5, 8, 0.9, True), (9, 12, 0.8, True), (20, 30, 0.1, True))
    assert chart._lanes(found).tolist() == [1, 0, 0, 0]
    many = bars(*((0, 10, score / 10, False) for score in range(8)))
    assert chart._lanes(many).max() == chart.LANES - 1


@pytest.mark.parametrize(
    "content",
    [
        video(truth={}, tracks=[track(detections={}, cas={}, attention=None)]),
        video(end=1.0, tracks=[track(length=1)]),  # a video of one snippet
        video(start=20.0, end=45.0),
    ],
)
def test_empty_short_and_cut_videos_are_drawn(content: Timeline) -> None:
    figure = timeline_figure("t", content)
    assert ElementTree.fromstring(figure.svg) is not None
    assert ("no instance in the ground truth" in texts(figure.svg)) == (not content.truth)
    assert timeline_png(content).startswith(b"\x89PNG")


def test_a_long_video_gets_a_wider_drawing_of_bounded_size() -> None:
    hours = 3 * 3600
    figure = timeline_figure("t", video(end=float(hours), tracks=[track(length=hours)]))
    assert width(timeline_figure("t", video()).svg) < width(figure.svg) <= 72 * (chart.WIDEST + chart.LABELS) + 1
    assert len(figure.svg) < 1_000_000


def test_thinned_curves_keep_their_extremes() -> None:
    values = np.random.default_rng(0).random(20_000)
    kept = chart._thinned(values)
    assert len(kept) <= chart.MOST_POINTS
    assert {values.argmin(), values.argmax()} <= set(kept.tolist())


def test_the_same_content_gives_the_same_bytes_and_dark_differs() -> None:
    assert timeline_figure("t", video()).svg == timeline_figure("t", video()).svg
    assert timeline_png(video()) == timeline_png(video())
    assert timeline_png(video()) != timeline_png(video(), dark=True)


def test_the_ground_of_a_picture_is_light_or_dark_everywhere() -> None:
    from matplotlib.image import imread

    light, dark = (imread(io.BytesIO(timeline_png(video(), dark=dark)))[..., :3] for dark in (False, True))
    assert (light.min(axis=2) == 1).mean() > 0.6
    assert (dark.max(axis=2) < 0.15).mean() > 0.6


def test_hostile_names_are_text_in_drawings_and_safe_as_files(tmp_path: Path) -> None:
    content = video(video=HOSTILE, truth={HOSTILE: bars((0, 10, 1, True))}, tracks=[track(HOSTILE)])
    svg = timeline_figure("t", content).svg
    assert "<script" not in svg
    names = [
        file_name(name) for name in (HOSTILE, "../../etc/passwd", "a/b", ".", "..", "CON.", "é" * 300, "a b", "a_b")
    ]
    assert len({name.casefold() for name in names[:-2]}) == len(names) - 2
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-~%")
        (tmp_path / f"{name}.svg").write_text("")
        assert (tmp_path / f"{name}.svg").parent == tmp_path


@pytest.mark.parametrize(("start", "end"), [(0.0, 60.0), (30.0, 60.0)])
def test_key_frames_stand_at_their_times(start: float, end: float) -> None:
    from PIL import Image

    # brightness tells the second: 12 pictures of 5 s each
    levels = np.arange(12, dtype=np.uint8) * 20
    images = np.broadcast_to(levels[:, None, None, None], (12, 72, 96, 3)).copy()
    svg = timeline_figure("one", video(pictures=Pictures(images, 5.0), start=start, end=end)).svg
    assert "key frames" in texts(svg)
    (content,) = re.findall(r"data:image/png;base64,([^\"]+)", svg)
    with Image.open(io.BytesIO(base64.b64decode(content))) as drawn:
        row = np.asarray(drawn.convert("L")).mean(axis=0)
    for share in (0.05, 0.5, 0.95):
        expected = 20 * int((start + share * (end - start)) // 5)
        assert abs(row[int(share * len(row))] - expected) <= 40  # within a picture or two


def test_without_key_frames_there_is_no_row() -> None:
    assert "key frames" not in texts(timeline_figure("one", video()).svg)
