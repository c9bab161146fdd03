"""From a folder of videos and a table of labels to detections and timelines, by the commands of docs/videos.md."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from harness.cli.main import build_parser
from tests.helpers.videos import command, extract, moving, need_video, write_video, write_weights

PARTS = {  # (colour, frames) of each stretch: 0 is background
    "tr1": ((0, 32), (1, 32), (0, 16)),
    "tr2": ((0, 16), (2, 48), (0, 32)),
    "tr3": ((1, 32), (0, 32), (2, 32)),
    "tr4": ((0, 48), (1, 32)),
    "te1": ((0, 32), (1, 48), (0, 16)),
    "te2": ((2, 32), (0, 48), (1, 16)),
}
CLASSES = {1: "Red", 2: "Green"}
QUICK = ["train.epochs=4", "train.temporal_length=8", "train.batch_size=2"]


def write_story(folder: Path) -> Path:
    """Six untrimmed videos, labels of all, and times of the test videos' actions."""
    table, database = ["video,labels,subset"], {}
    for name, parts in PARTS.items():
        images: list[np.ndarray] = []
        segments = []
        for colour, count in parts:
            if colour:
                start, end = len(images) / 25, (len(images) + count) / 25
                segments.append({"label": CLASSES[colour], "segment": [start, end]})
            images += moving(count, colour)
        write_video(folder / "videos" / f"{name}.mp4", images)
        subset = "train" if name.startswith("tr") else "test"
        table.append(f"{name}.mp4,{';'.join(sorted({str(one['label']) for one in segments}))},{subset}")
        database[name] = {"subset": subset, "duration": len(images) / 25, "annotations": segments}
    (folder / "videos" / "labels.csv").write_text("\n".join(table) + "\n")
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    return folder


@pytest.mark.slow
def test_the_whole_story(tmp_path, monkeypatch):
    need_video()
    monkeypatch.chdir(write_story(tmp_path))
    weights = write_weights(tmp_path / "rgb.pt")
    assert command("data", "verify", "videos").err.startswith("error: No annotations and no features: videos holds")
    done = extract(Path("videos"), Path("mine"), weights)
    assert (done.code, done.out) == (0, "")
    assert command("data", "verify", "mine").code == 0
    # the times of test videos make numbers; training has seen the table alone
    trained = command(
        "run", "--method", "acmnet", "--data", "mine", "--annotations", "truth.json", "--device", "cpu", "--threads", 1,
        "--set", *QUICK,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    (run,) = Path("runs/runs").iterdir()
    record = json.loads((run / "record.json").read_text())
    assert record["data"]["features"].startswith("I3D (Inception), RGB, weights")
    predicted = command("predict", run, "--data", "mine", "--subset", "test", "--out", "found.json")
    assert predicted.code == 0, predicted.err
    assert sorted(json.loads(Path("found.json").read_text())["results"]) == ["te1", "te2"]
    plain = command("show", run, "te1", "--out", "plain")
    shown = command("show", run, "te1", "--data", "mine", "--out", "shown")
    assert (plain.code, shown.code) == (0, 0), shown.err
    with_pictures, without = Path("shown/te1.svg").read_text(), Path("plain/te1.svg").read_text()
    assert "key frames" in with_pictures
    assert with_pictures.count("<image") == 1
    assert "key frames" not in without
    page = command("show", run, "--data", "mine", "--out", "page")
    assert page.code == 0, page.err
    assert "key frames" in Path(page.out.strip()).read_text()


def test_the_commands_of_the_page_parse():
    text = (Path(__file__).parents[2] / "docs" / "videos.md").read_text()
    lines = text.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("wstal-bench ")]
    assert len(commands) > 5
    for words in commands:
        assert build_parser().parse_args(words).handle is not None
