"""Files that describe extracted features: `dataset.toml`, and `annotations.json` of what `labels.csv` says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.data.annotations import ANNOTATIONS, read_data_json
from harness.data.descriptor import LONGEST_DATA_NAME, RESERVED, DatasetDescriptor, Stream, read_descriptor
from harness.data.extraction import Extraction
from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.io.text import printable
from harness.videos.folder import VideoFile, subsets_of
from harness.videos.weights import Weights
from wstal.errors import UserError

DESCRIPTOR = "dataset.toml"
VERSION = "wstal-bench data extract"
STREAM_WORDS = {"rgb": "RGB", "flow": "optical flow"}


def settings_of(
    out: Path, weights: dict[str, Weights], fps: float, snippet_frames: int, stride: int, pixels: dict[str, Any]
) -> DatasetDescriptor:
    """Return what `dataset.toml` states of an extraction.

    Args:
        out: the output folder, whose name the data set gets.
        weights: of each stream, RGB first.
        fps: frames per second, to which videos are resampled.
        snippet_frames: frames that a row describes.
        stride: frames from one row to the next.
        pixels: `short_side`, `crop` and `flow_bound`.

    Raises:
        UserError: the crop is larger than the frame.
    """
    how = Extraction(weights={stream: one.sha256 for stream, one in weights.items()}, **pixels)
    if how.crop > how.short_side:
        raise UserError(f"--crop {how.crop} is more than --short-side {how.short_side}. Make it smaller.")
    words = " and ".join(STREAM_WORDS[stream] for stream in weights)
    digests = " and ".join(digest[:8] for digest in how.weights.values())
    name = re.sub(r"[^a-z0-9]+", "_", out.resolve().name.lower()).strip("_")[:LONGEST_DATA_NAME] or "videos"
    return DatasetDescriptor(
        name=f"{name}_videos" if RESERVED.fullmatch(name) else name,
        title=printable(out.resolve().name) or name,
        extractor=f"I3D (Inception), {words}, weights {digests}, {how.crop} of {how.short_side} pixels",
        streams=tuple(Stream(name=stream, width=one.network().width) for stream, one in weights.items()),
        fps=fps,
        snippet_frames=snippet_frames,
        stride=stride,
        extraction=how,
    )


def write_settings(out: Path, settings: DatasetDescriptor) -> None:
    """Write `dataset.toml` into the output folder, or check that the one that is there has the same settings.

    Args:
        out: the output folder.
        settings: of the extraction.

    Raises:
        UserError: the features there were extracted with other settings, or the folder holds something else.
        StoreError: it cannot be written.
    """
    path = out / DESCRIPTOR
    if not os.path.lexists(path):
        if os.path.isdir(out) and os.listdir(out):
            raise UserError(f"{out} is not empty and holds no extraction. Choose another folder.")
        atomic_write(path, _as_toml(settings).encode())
        return
    before = read_descriptor(path)
    for key in ("fps", "snippet_frames", "stride", "streams", "extraction"):
        if (there := getattr(before, key)) != (wanted := getattr(settings, key)):
            raise UserError(
                f"{path} has `{key}` {_short(there)}, and now {_short(wanted)} is asked for. "
                "Give the options of the first extraction, or choose another folder."
            )


def _short(value: Any) -> str:
    parts = value if isinstance(value, tuple) else (value,)
    return printable(" ".join(str(part) for part in parts) or "none", 300)


def _as_toml(settings: DatasetDescriptor) -> str:
    how = settings.extraction
    assert how is not None
    streams = ", ".join(f'{{ name = "{stream.name}", width = {stream.width} }}' for stream in settings.streams)
    lines = [
        "# Written by `wstal-bench data extract`, which adds to this folder only with the same settings.",
        f"name = {json.dumps(settings.name)}",
        f"title = {json.dumps(settings.title, ensure_ascii=False)}",
        f"extractor = {json.dumps(settings.extractor)}",
        f"fps = {settings.fps}  # to which every video is resampled",
        f"snippet_frames = {settings.snippet_frames}",
        f"stride = {settings.stride}",
        f"streams = [{streams}]",
        "",
        "[extraction]",
        f"short_side = {how.short_side}  # pixels after resizing",
        f"crop = {how.crop}  # square in the middle",
        f'flow = "{how.flow}"',
        f"flow_bound = {how.flow_bound}  # pixels of motion that become 1",
        "",
        "[extraction.weights]  # SHA-256",
        *(f'{stream} = "{digest}"' for stream, digest in how.weights.items()),
    ]
    return "\n".join(lines) + "\n"


def write_annotations(out: Path, videos: Sequence[VideoFile], facts: dict[str, dict[str, Any]]) -> str:
    """Write the videos that have features, with their lengths and labels, as `annotations.json` of the output folder.

    Args:
        out: the output folder.
        videos: all videos of the extraction.
        facts: of each video that has features.

    Returns:
        A note where the folder has annotations from elsewhere, which stay, else an empty text.

    Raises:
        UserError: `annotations.json` is damaged.
        StoreError: it cannot be written.
    """
    path = out / ANNOTATIONS
    if os.path.lexists(path):
        before = read_data_json(path)
        if not isinstance(before, dict) or before.get("version") != VERSION:
            return f"{path} is not from here and stays as it is."
    subsets = subsets_of(videos)
    database = {
        video.name: {
            "subset": subsets[video.name],
            "duration": round(facts[video.name]["seconds"], 3),
            "annotations": [{"label": label} for label in video.labels],
        }
        for video in videos
        if video.name in facts
    }
    atomic_write(path, pretty_json({"version": VERSION, "database": database}))
    return ""
