import json
import os
import shutil
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.annotations import read_annotations
from harness.data.descriptor import read_descriptor
from harness.io.encoding import sha256_file
from harness.io.locks import acquire
from harness.videos.decoding import Footage, upright_frames
from harness.videos.key_frames import key_frames_file, read_key_frames
from harness.videos.weights import read_weights
from tests.helpers.commands import Started
from tests.helpers.videos import WIDTH, command, extract, moving, need_video, write_video, write_weights

need_video()


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, Path, list[Path], str]:
    """A folder of good and bad videos, extracted once: both streams."""
    folder = tmp_path_factory.mktemp("story")
    videos, out = folder / "videos", folder / "out"
    write_video(videos / "long.mp4", moving(34))
    write_video(videos / "one second.mp4", moving(25, 1))
    write_video(videos / "turned.mp4", moving(17), rotation=90)
    write_video(videos / "varies.mkv", moving(16), times=[40 * n if n < 8 else 80 * n for n in range(16)])
    write_video(videos / "sound.mp4", [], sound=True)
    write_video(videos / "short.mp4", moving(10))
    content = (videos / "long.mp4").read_bytes()
    (videos / "half.mp4").write_bytes(content[: len(content) // 2])
    (videos / "labels.csv").write_text("video,labels\nlong.mp4,Run\none second,Jump;Run\nhalf,Jump\n")
    weights = [write_weights(folder / "rgb.pt"), write_weights(folder / "flow.pt", 2)]
    result = extract(videos, out, *weights)
    assert result.code == 0, result.err
    return videos, out, weights, result.out


def test_each_unusual_video_is_one_line_and_stops_no_other(done):
    lines = done[3].splitlines()
    assert [line.split(":")[0] for line in lines] == ["turned", "varies", "half", "short", "sound"]
    assert "frame rate varies" in lines[1]
    assert lines[2].startswith("half: LEFT OUT, no readable video file")
    assert lines[3] == "short: LEFT OUT, too short: 0.40 s, a row describes 0.64 s"
    assert lines[4] == "sound: LEFT OUT, no video in it, only sound"


def test_rows_are_the_networks_output_on_windows(done):
    videos, out, weights, _ = done
    frames = np.stack(list(upright_frames(videos / "long.mp4", 25, 32, 1, Footage(0, 0, 0, 0))))
    found = np.load(out / "features" / "rgb" / "long.npy")
    assert (found.shape, found.dtype) == ((2, WIDTH), np.float32)
    left = (frames.shape[2] - 32) // 2
    clips = torch.from_numpy(frames[:32, :, left : left + 32]).float().reshape(2, 16, 32, 32, 3).permute(0, 4, 1, 2, 3)
    expected = read_weights(weights[0]).network()(clips / 127.5 - 1)
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    flow = np.load(out / "features" / "flow" / "long.npy")
    assert flow.shape == found.shape
    assert np.isfinite(flow).all()


def test_the_folder_describes_itself(done):
    _, out, weights, _ = done
    settings = read_descriptor(out / "dataset.toml")
    assert (settings.fps, settings.snippet_frames, settings.stride) == (25.0, 16, 16)
    assert [(stream.name, stream.width) for stream in settings.streams] == [("rgb", WIDTH), ("flow", WIDTH)]
    how = settings.extraction
    assert how is not None
    assert (how.short_side, how.crop, how.flow_bound) == (32, 32, 20.0)
    assert how.weights == {"rgb": sha256_file(weights[0]), "flow": sha256_file(weights[1])}
    content = read_annotations(out / "annotations.json")
    assert dict(zip(content.videos, content.subset, strict=True)) == {
        "long": "training", "one second": "training", "turned": "test", "varies": "test",
    }  # fmt: skip
    assert content.untimed == (("long", "Run"), ("one second", "Jump"), ("one second", "Run"))
    assert content.duration.tolist()[:2] == [1.36, 1.0]
    images, step = read_key_frames(key_frames_file(out, "long"))
    assert len(images) * step == pytest.approx(1.36, abs=step)


def test_verify_finds_nothing_wrong(done):
    result = command("data", "verify", done[1])
    assert result.code == 0, result.out + result.err


def test_the_same_command_goes_on_with_what_is_missing(done, tmp_path):
    videos, out, weights, _ = done
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in copy.rglob("*.npy")}
    (copy / "videos" / "turned.json").unlink()  # as after a kill: it is written last
    (copy / "features" / "rgb" / ".turned.npy.abc.tmp").touch()
    result = extract(videos, copy, *weights)
    assert result.code == 0, result.err
    assert "4 videos (3 from before)" in result.err
    assert not list(copy.rglob(".*.tmp"))
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in copy.rglob("*.npy")}
    changed = {path.stem for path in before if before[path][0] != after[path][0]}
    assert changed == {"turned"}
    assert {path: content for path, (_, content) in before.items()} == {path: c for path, (_, c) in after.items()}


def test_a_video_that_was_replaced_is_extracted_again(done, tmp_path):
    videos, out, weights, _ = done
    shutil.copytree(videos, tmp_path / "videos")
    shutil.copytree(out, tmp_path / "out")
    write_video(tmp_path / "videos" / "long.mp4", moving(48))
    result = extract(tmp_path / "videos", tmp_path / "out", *weights)
    assert "4 videos (3 from before)" in result.err
    assert len(np.load(tmp_path / "out" / "features" / "rgb" / "long.npy")) == 3


def test_other_settings_and_other_folders_are_refused(done, tmp_path):
    videos, out, weights, _ = done
    result = extract(videos, out, *weights, options=("--stride", 8))
    assert (result.code, "has `stride` 16, and now 8 is asked for" in result.err) == (2, True)
    result = extract(videos, out, weights[0])
    assert (result.code, "`streams`" in result.err) == (2, True)
    (tmp_path / "notes.txt").touch()
    result = extract(videos, tmp_path, *weights)
    assert (result.code, "is not empty and holds no extraction" in result.err) == (2, True)
    result = extract(videos, tmp_path / "new", *weights, options=("--crop", 64))
    assert (result.code, "--crop 64 is more than --short-side 32" in result.err) == (2, True)


def test_two_extractions_into_one_folder_are_kept_apart(done, tmp_path):
    videos, out, weights, _ = done
    lock = acquire(out / ".lock")
    assert lock is not None
    try:
        result = extract(videos, out, *weights)
    finally:
        lock.release()
    assert (result.code, "Another extraction into" in result.err) == (2, True)


def test_a_killed_extraction_leaves_no_process_and_goes_on(done, tmp_path):
    videos = tmp_path / "videos"
    for number in range(3):
        write_video(videos / f"{number}.mp4", moving(200, number))
    words = ("data", "extract", videos, "--out", tmp_path / "out", "--weights", done[2][0], "--short-side", 32)
    started = Started(*words, "--crop", 32, "--jobs", 1, "--device", "cpu")
    started.until(3)  # the command, Python's tracker of resources, a process that extracts
    started.process.kill()
    started.ended(20)  # with all that it started
    result = extract(videos, tmp_path / "out", done[2][0])
    assert (result.code, "Done: 3 videos" in result.err) == (0, True)


def test_annotations_from_elsewhere_stay(done, tmp_path):
    videos, out, weights, _ = done
    shutil.copytree(out, tmp_path / "out")
    mine = {"database": {"long": {"subset": "test", "annotations": [{"label": "Run", "segment": [0, 1]}]}}}
    (tmp_path / "out" / "annotations.json").write_text(json.dumps(mine))
    result = extract(videos, tmp_path / "out", *weights)
    assert "is not from here and stays" in result.err
    assert json.loads((tmp_path / "out" / "annotations.json").read_text()) == mine


def test_without_weights_nothing_is_written(done, tmp_path):
    result = command("data", "extract", done[0], "--out", tmp_path / "out")
    assert (result.code, "in one of three ways" in result.err) == (3, True)
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies_takes_no_other_video_with_it(done, tmp_path, monkeypatch):
    from harness.videos import extract as module
    from harness.videos.folder import VideoFile

    outcome, died = module.Outcome(), []

    def run(waiting, task, processes, outcome, progress):
        taken = [waiting.popleft() for _ in range(min(processes, len(waiting)))]
        suspects = taken if any(video.name == "b" for video in taken) else []
        died.append([video.name for video in suspects])
        outcome.facts.update({video.name: {} for video in taken if video not in suspects})
        return suspects

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(
        module, "opened", lambda path: __import__("contextlib").nullcontext((0, 0, Footage(1, 1, 1, 1)))
    )
    videos = [VideoFile(name, tmp_path / name) for name in "abcde"]
    task = module.Task(tmp_path / "out", read_descriptor(done[1] / "dataset.toml"), {}, "cpu", 1)
    outcome = module.extract_videos(videos, task, 2, lambda *_: None)
    assert sorted(outcome.facts) == ["a", "c", "d", "e"]
    assert list(outcome.faults) == ["b"]
    assert "its process ended" in outcome.faults["b"]


def test_a_worker_really_dies(done, tmp_path, monkeypatch):
    weights = done[2]
    from harness.videos import extract as module

    settings = read_descriptor(done[1] / "dataset.toml")
    task = module.Task(tmp_path / "out", settings, {"rgb": read_weights(weights[0])}, "cpu", 1)
    # a function that a spawned process finds by its name; its argument is the exit code
    monkeypatch.setattr(module, "_extract", os._exit)
    waiting: deque[Any] = deque([3, 4])
    suspects: list[Any] = module._run(waiting, task, 1, module.Outcome(), module._Progress({}, lambda *_: None))
    assert suspects == [3]
    assert list(waiting) == [4]
