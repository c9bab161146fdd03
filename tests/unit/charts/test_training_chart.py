"""Tests of the training chart, read back from its SVG: places, gaps, escapes, refused input."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.charts.training import MOST_POINTS, PANEL, ChartRun, _extremes, draw, draw_for_page
from harness.cli.main import main
from harness.io.encoding import sha256
from harness.records.files import FIGURE, HISTORY
from harness.records.reading import read_record
from harness.records.run_folder import chart_run
from harness.records.schema import run_id
from harness.runs.checkpoint import History
from tests.helpers.records import make_record, unchecked

CLASSES = ("Diving", "HighJump")
# two epochs of three steps; the memory is built from the second on
TOTAL = [4.0, 1.0, 7.0, 2.0, 9.0, 4.0]
FILL = [[0, 0, 0], [2, 0, 5], [4, 0, 5]]


def run(**changes: Any) -> ChartRun:
    return chart_run(unchecked(stored(**changes)))


def stored(**changes: Any) -> dict[str, Any]:
    recipe = {"method": {"memory": {"length": 5}}, "train": {}, "localizer": {}}
    return make_record("rmgcl-gksa", 3, classes=CLASSES, title="Ours", recipe=recipe, schedule={}) | changes


def history(epochs: dict[str, Any] | None = None, **steps: Any) -> dict[str, Any]:
    return {"steps_per_epoch": 2, "steps": {"total": TOTAL} | steps, "epochs": epochs or {}}


def drawn(*arguments: Any, **steps: Any) -> ElementTree.Element:
    return ElementTree.fromstring(draw(history(*arguments, **steps), run()))


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in svg.iter() if element.tag.endswith("}text")]


def strokes(svg: ElementTree.Element, name: str) -> list[list[tuple[float, float]]]:
    """Return the pieces of a curve between its gaps, as points with y upwards."""
    (group,) = (element for element in svg.iter() if element.get("id") == name)
    path = next(element for element in group if element.tag.endswith("}path")).get("d") or ""
    pieces = [re.findall(r"[ML] (\S+) (\S+)", f"M{piece}") for piece in path.split("M")[1:]]
    return [[(float(x), -float(y)) for x, y in piece] for piece in pieces]


def picture(svg: ElementTree.Element) -> np.ndarray[Any, Any]:
    """Return the first heat map's pixels as they are shown, the top row first."""
    image = next(element for element in svg.iter() if element.tag.endswith("}image"))
    data = image.get("{http://www.w3.org/1999/xlink}href", "").split(",", 1)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    return pixels[::-1] if "scale(1 -1)" in image.get("transform", "") else pixels


def test_the_same_bytes_whatever_the_users_matplotlib_is_set_to() -> None:
    content = history({"memory_fill": FILL}, feature=TOTAL)
    first = draw(content, run())
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True, "font.size": 30, "svg.hashsalt": "x"}):
        before = dict(matplotlib.rcParams)
        assert draw(content, run()) == first
        assert dict(matplotlib.rcParams) == before
    assert b"<dc:date>" not in first


def test_the_page_behind_it_is_opaque_white() -> None:
    background = next(element for element in drawn().iter() if element.get("id") == "patch_1")[0]
    assert background.get("style") == "fill: #ffffff"


def test_on_a_page_it_follows_the_ground() -> None:
    alone, page = draw(history(), run()).decode(), draw_for_page(history(), run())
    assert "#444444" in alone
    assert not re.findall("#444444|#08519c|#a50f15|fill: #ffffff|fill: white", page)
    assert "currentColor" in page
    assert texts(ElementTree.fromstring(page)) == texts(ElementTree.fromstring(alone))


def test_matplotlib_is_imported_when_a_figure_is_drawn() -> None:
    code = "import sys, harness.charts.training; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_method_without_memory_has_its_losses_alone() -> None:
    svg = drawn(feature=[12000.0] * 6, total=TOTAL)
    shown = texts(svg)
    assert "total" in shown
    assert "feature" in shown
    assert "12,000" in shown
    assert not [text for text in shown if "emory" in text or text == "epoch"]
    assert not [element for element in svg.iter() if element.tag.endswith("}image")]
    assert not [element for element in svg.iter() if element.get("id", "").endswith("-start")]


def test_titles_say_what_run_it_is_and_that_data_are_synthetic() -> None:
    assert "Ours on Data, seed 3" in texts(drawn())
    assert f"Run {run().id}" in texts(drawn())
    synthetic = texts(ElementTree.fromstring(draw(history(), run(synthetic=True))))
    assert "SYNTHETIC DATA, no real video: Ours on Data, seed 3" in synthetic


def test_curves_means_and_the_memorys_start_are_where_they_belong() -> None:
    svg = drawn({"memory_fill": FILL, "memory_within": [None, 0.8, 0.6], "memory_between": [None, 0.4, 0.2]})
    (raw,), (means,) = strokes(svg, "term-0-raw"), strokes(svg, "term-0-mean")
    (x_first, y_first), (x_second, y_second) = raw[:2]
    a_step, a_unit = x_second - x_first, (y_second - y_first) / (TOTAL[1] - TOTAL[0])

    def at(step: float, value: float) -> Any:
        return pytest.approx((x_first + (step - 1) * a_step, y_first + (value - TOTAL[0]) * a_unit), abs=1e-4)

    assert a_step > 0
    assert a_unit > 0
    assert raw == [at(step, value) for step, value in enumerate(TOTAL, 1)]
    # by hand: means of (4, 1), (7, 2), (9, 4), in the middle of steps 1-2, 3-4, 5-6
    assert means == [at(1.5, 2.5), at(3.5, 4.5), at(5.5, 6.5)]
    # the second epoch starts between steps 2 and 3
    ((start, _), (end, _)) = strokes(svg, "term-0-start")[0]
    assert start == end == pytest.approx(x_first + 1.5 * a_step)
    (within,), (between,) = strokes(svg, "curve-0-0"), strokes(svg, "curve-0-1")
    an_epoch = within[1][0] - within[0][0]
    # epochs 2 and 3 alone; the mark stands between 1 and 2
    assert [len(within), len(between)] == [2, 2]
    assert strokes(svg, "curve-0-start")[0][0][0] == pytest.approx(within[0][0] - an_epoch / 2)
    assert within[0][1] - within[1][1] == pytest.approx(between[0][1] - between[1][1], abs=1e-4)
    assert within[0][1] - between[0][1] == pytest.approx(2 * (within[0][1] - within[1][1]), abs=1e-4)
    assert any("starts to build (epoch 2)" in text for text in texts(svg))


def test_the_heat_map_shows_each_class_by_epoch_and_names_background() -> None:
    svg = drawn({"memory_fill": FILL})
    shown = texts(svg)
    places = [shown.index(name) for name in (*CLASSES, "background")]
    assert places == sorted(places)
    assert "memory_fill: filled slots of each class (white: none; full: 5)" in shown
    pixels = picture(svg)
    assert pixels.shape[:2] == (3, 3)
    assert (pixels[np.array(FILL).T == 0] == 255).all()
    full = np.array(matplotlib.colormaps["viridis"](0, bytes=True))
    assert (pixels[np.array(FILL).T == 5] == full).all()
    # 4 of 5 is darker than 2 of 5, and neither is full or empty
    two, four = (pixels[0, epoch, :3].astype(int).sum() for epoch in (1, 2))
    assert full[:3].sum() < four < two < 3 * 255


@pytest.mark.parametrize("classes", [1, 40, 200, 500])
def test_any_number_of_classes_is_shown_once(classes: int) -> None:
    names = [f"class {number}" for number in range(classes)]
    content = history({"memory_fill": [[1] * (classes + 1)] * 3})
    svg = ElementTree.fromstring(draw(content, run(classes=names)))
    shown = texts(svg)
    named = [name for name in names if name in shown]
    assert shown.count("background") == 1
    assert len(named) == classes if classes <= 200 else 100 < len(named) < classes
    maps = [element for element in svg.iter() if element.get("id", "").endswith("-start")]
    assert len(maps) == 1 + min(3, -(-(classes + 1) // 40))


def test_null_and_not_finite_values_are_gaps_never_zeros() -> None:
    svg = drawn({"memory_between": [0.5, None, 0.25]}, total=[4.0, 1.0, None, 2.0, 9.0, float("inf")])
    assert [len(piece) for piece in strokes(svg, "curve-0-0")] == [1, 1]
    raw = strokes(svg, "term-0-raw")
    assert [len(piece) for piece in raw] == [2, 2]
    # the mean of an epoch that misses a step is no mean of that epoch
    (first, second), _ = raw
    ((mean,),) = strokes(svg, "term-0-mean")
    assert mean == pytest.approx(((first[0] + second[0]) / 2, (first[1] + second[1]) / 2), abs=1e-4)
    assert not any("Not drawn" in text for text in texts(svg))


def test_the_weight_is_on_its_scale_and_absent_before_the_first_pseudo_label() -> None:
    svg = drawn(pseudo_label_weight=[0.0, 0.0, 0.0, 0.5, 0.25, 0.75])
    ((first, second, third),) = strokes(svg, "term-1-raw")
    assert len(strokes(svg, "term-1-mean")[0]) == 1
    # the panel's height is the scale from 0 to 1
    assert first[1] - second[1] == pytest.approx(0.25 * PANEL * 72, abs=1e-4)
    assert third[1] - second[1] == pytest.approx(0.5 * PANEL * 72, abs=1e-4)
    assert "pseudo_label_weight, mean exp(-D)" in texts(svg)
    never = texts(drawn(pseudo_label_weight=[0.0] * 6))
    assert "Not drawn, for want of a number or an equal list a step or epoch: pseudo_label_weight" in never


def test_a_third_partys_diagnostics_are_drawn_and_what_cannot_be_is_named() -> None:
    svg = drawn(
        {
            "entropy": [3.0, None, 1.0], "by class": [None, [1, -1], [2, 0.5]], "words": ["a", "b", "c"],
            "ragged": [[1], [1, 2], [1]], "late": [1.0], "empty": [[], [], []], "deep": [{}, [[1]], 2],
        },
        odd=[1.0, 2.0],
    )  # fmt: skip
    shown = texts(svg)
    assert {"entropy", "by class", *CLASSES} <= set(shown)
    assert "background" not in shown
    assert picture(svg).shape[:2] == (2, 3)
    assert any(text.endswith("a step or epoch: odd, words, ragged, late, empty, deep") for text in shown)


def test_hostile_names_stay_the_text_that_they_are() -> None:
    names = ["<script>alert(1)</script>", r"$\frac{1}{0}$", 'a & "b" $', "a\x00b\x1bc\nd\ud800", "跳水" * 20, "_x"]
    content = history({"memory_fill": [[1] * 7] * 3, names[0]: [1, 2, 3]}, **{names[1]: TOTAL, names[3]: [None] * 6})
    title = "$x$ </svg>"
    svg = ElementTree.fromstring(draw(content, run(classes=names, title=title)))
    shown = texts(svg)
    assert f"{title} on Data, seed 3" in shown
    assert {*names[:3], "a\ufffdb\ufffdc\ufffdd\ufffd", "_x"} <= set(shown)
    assert any(text.startswith("跳水") and text.endswith("…") for text in shown)
    assert shown.count(names[0]) == shown.count(names[1]) == 2  # the class and the curve
    assert not [element for element in svg.iter() if element.tag.endswith("script")]


def test_every_id_is_there_once() -> None:
    content = history({"memory_fill": [[1] * 90] * 3, "x": [1, 2, 3]}, other=TOTAL)
    found = [element.get("id") for element in ElementTree.fromstring(draw(content, run())).iter()]
    named = [name for name in found if name is not None]
    assert len(named) == len(set(named)) > 20


@given(st.lists(st.one_of(st.just(np.nan), st.floats(-9, 9)), min_size=1, max_size=40), st.integers(1, 300))
def test_a_long_curve_keeps_its_extremes_and_its_gaps(block: list[float], times: int) -> None:
    values = np.array(block * times)
    kept = _extremes(values)
    assert len(kept) <= max(MOST_POINTS, 3)
    assert kept[0] >= 0
    assert kept[-1] < len(values)
    assert all(a < b for a, b in pairwise(kept))
    if not np.isnan(values).all():
        assert np.nanmax(values[kept]) == np.nanmax(values)
        assert np.nanmin(values[kept]) == np.nanmin(values)
    # so dense that the epoch's picture is whole: no stretch without a point
    assert np.diff(kept, prepend=0, append=len(values)).max(initial=0) <= 2 * -(-3 * len(values) // MOST_POINTS)
    assert np.isnan(values[kept]).any() == np.isnan(values).any()


def test_one_spike_in_a_long_training_is_seen() -> None:
    values = [1.0] * 13_000
    values[7_777] = 50.0
    svg = ElementTree.fromstring(draw(history(total=values), run()))
    (raw,) = strokes(svg, "term-0-raw")
    heights = [y for _, y in raw]
    assert len(raw) < MOST_POINTS
    assert heights.count(max(heights)) == 1


def test_it_draws_what_the_trainer_keeps() -> None:
    kept = History()
    for epoch in range(2):
        steps = [{"instance": torch.tensor(1.0 + step), "total": torch.tensor(2.0)} for step in range(3)]
        kept.add_epoch(steps, {"memory_fill": [epoch, 0, epoch], "memory_within": None if epoch == 0 else 0.5})
    shown = texts(ElementTree.fromstring(draw(kept.to_json(), run())))
    assert {"instance", "total", "background", "mean cosine of the memory"} <= set(shown)


def store_run(folder: Path, content: Any, raw: bytes | None = None, **changes: Any) -> Path:
    """Write a finished run by hand, with `raw` in its history in place of the content that its digest is of."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    folder.mkdir()
    (folder / HISTORY).write_bytes(data if raw is None else raw)
    made = stored(artefacts={HISTORY: sha256(data)}, **changes)
    made["data"]["name"] = folder.name
    made["id"] = run_id(folder.name, made["method"], made["seed"], made["digest"])
    (folder / "record.json").write_text(json.dumps(made))
    return folder


def test_the_command_draws_each_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [store_run(tmp_path / name, history({"memory_fill": FILL})) for name in ("one", "two")]
    assert main(["show", "--losses", *map(str, runs)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(run / FIGURE) for run in runs]
    expected = draw(history({"memory_fill": FILL}), chart_run(read_record(runs[0] / "record.json")))
    assert (runs[0] / FIGURE).read_bytes() == expected
    out = tmp_path / "new" / "figures"
    assert main(["show", "--losses", *map(str, runs), "--out", str(out)]) == 0
    assert [path.name.partition("-")[0] for path in sorted(out.iterdir())] == ["one", "two"]
    assert sorted(out.iterdir())[0].read_bytes() == expected


@pytest.mark.parametrize(
    ("content", "raw", "said"),
    [
        (history(), b'{"steps_per', "not valid JSON"),
        (history(), json.dumps(history(total=[1.0] * 6)).encode(), "SHA-256 differs"),
        ([], None, "no history as this version"),
        ({"total": [1.0]}, None, "steps_per_epoch"),
        (history() | {"steps_per_epoch": 0}, None, "steps_per_epoch"),
        (history() | {"steps_per_epoch": 4}, None, "6 steps of 'total' are not epochs of 4"),
        (history() | {"steps": {}}, None, "0 steps of 'total'"),
        (history() | {"epochs": {"x": 3}}, None, "epochs.x"),
        (history(feature=["1"] * 6), None, "steps.feature.0"),
    ],
)
def test_a_damaged_history_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, raw: bytes | None, said: str
) -> None:
    good, bad = store_run(tmp_path / "good", history()), store_run(tmp_path / "bad", content, raw)
    assert main(["show", "--losses", str(good), str(bad)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert str(bad / HISTORY) in message
    assert not (good / FIGURE).exists()


def test_no_finished_run_and_no_history_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--losses", str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    run = store_run(tmp_path / "run", history())
    (run / HISTORY).unlink()
    assert main(["show", "--losses", str(run)]) == 2
    assert "Cannot read" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_the_stores_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store_run(tmp_path / "run", history())
    assert main(["show", "--losses", str(run), "--out", str(run / HISTORY / "below")]) == 4
    assert "Cannot write" in capsys.readouterr().err
