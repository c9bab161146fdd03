"""Conversion of feature folders, annotations and detections of other projects into the layout of this one.

What is found is told before anything is written: `plan_conversion` decides, `write_conversion` writes.
"""

from __future__ import annotations

import io
import json
import os
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.annotations import AMBIGUOUS, ANNOTATIONS, read_annotations, read_data_json
from harness.data.descriptor import is_frame_rate, with_classes
from harness.data.features import check_finite, some
from harness.data.foreign_features import JOINT, STREAMS, Part, as_rows, axes_of, check_axes, find_parts
from harness.data.label_table import read_labels
from harness.data.thumos_text import class_files, read_class_files
from harness.data.values import number
from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.io.text import printable
from wstal.errors import MissingDataError, UserError

FPS_FILE = "fps.json"
WINDOW = 16
FITS = 0.9  # share of the videos whose rows a clock must explain
FORMS = (
    "W-TALC's or HAAN's arrays (videoname.npy, video_names.npy), THUMOS14's text files (<class>_val.txt), "
    "ActivityNet-style JSON (annotations.json), or a table of labels (labels.csv)"
)


@dataclass(frozen=True)
class Options:
    """What the user states, None where the files tell.

    Args:
        fps: frames per second of the extraction.
        window: frames of a row.
        stride: frames from row to row.
        axes: of the arrays, as `TD`.
        key: name of the array inside a file of several.
    """

    fps: float | None = None
    window: int | None = None
    stride: int | None = None
    axes: str | None = None
    key: str | None = None


@dataclass
class Plan:
    """What is going to be written.

    Args:
        says: what was found, for people.
        database: annotations, None where there are none.
        ambiguous: text of the intervals that some protocols excuse.
        parts: streams of each video, by the name that the video gets.
        axes: of each stream's arrays.
        clock: keys of `dataset.toml` about time.
        rates: frames per second by video, where the videos differ.
        widths: columns of each stream.
    """

    says: list[str] = field(default_factory=list)
    database: dict[str, Any] | None = None
    ambiguous: str = ""
    parts: dict[str, list[Part]] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    clock: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)


def plan_conversion(annotations: Path | None, features: Path | None, options: Options) -> Plan:
    """Find out what files hold and what they become, reading the shapes of all features.

    Args:
        annotations: folder or file.
        features: folder or file.
        options: what the files do not tell.

    Raises:
        MissingDataError: a file is not there.
        UserError: a file is damaged or of no known form, or it is ambiguous. The message names the option that decides.
    """
    if options.fps is not None and not is_frame_rate(options.fps):
        raise UserError(f"Expected --fps to be frames per second, from 0.001 to below 10,000, got {options.fps:g}.")
    plan = Plan()
    if annotations is not None:
        _plan_annotations(plan, annotations)
    if features is not None:
        _plan_features(plan, features, options)
    return plan


def _plan_annotations(plan: Plan, path: Path) -> None:
    if os.path.isdir(path) and (files := class_files(path)):
        plan.database, plan.ambiguous = read_class_files(files)
        plan.says.append(f"Annotations: {len(files)} text files of THUMOS14, without durations.")
    elif path.suffix.lower() == ".csv":
        table = read_labels(path)
        plan.database = {
            video: {
                "subset": subset or ("training" if labels else "test"),
                "annotations": [{"label": label} for label in labels],
            }
            for video, (labels, subset) in table.items()
        }
        plan.says.append("Annotations: a table of video-level labels, without times.")
    elif path.name.endswith((".json", ".json.gz")) or os.path.isfile(path / ANNOTATIONS):
        plan.says.append(f"Annotations: ActivityNet-style JSON, {len(read_annotations(path).videos)} videos.")
        plan.database = read_data_json(path / ANNOTATIONS if os.path.isdir(path) else path)["database"]
    elif not os.path.exists(path):
        raise MissingDataError(f"{path} is not there. Check the path.")
    else:
        raise UserError(f"{path} holds no annotations of a known form: {FORMS}.")


def _plan_features(plan: Plan, source: Path, options: Options) -> None:
    parts = find_parts(source, options.key)
    known = plan.database or {}
    for part in parts:
        video = part.video
        if known and video not in known and video.removeprefix("v_") in known:
            video = video.removeprefix("v_")
        plan.parts.setdefault(video, []).append(part)
    streams = tuple(one for one in (*STREAMS, JOINT) if any(part.stream == one for part in parts))
    if JOINT in streams and len(streams) > 1:
        odd = next(part for part in parts if part.stream == JOINT)
        raise UserError(f"{odd.path} names no stream, other files do ({', '.join(streams[:-1])}). Name all alike.")
    if lacking := [video for video, own in plan.parts.items() if len(own) < len(streams)]:
        raise UserError(f"{len(lacking)} videos lack a stream that others have: {some(lacking)}. Add or remove it.")
    rows: dict[str, dict[str, int]] = {}
    for stream in streams:
        shapes = {part.video: part.shape() for part in parts if part.stream == stream}
        axes = check_axes(options.axes, shapes) if options.axes else axes_of(shapes)
        rows[stream] = {video: shape[axes.index("T")] for video, shape in shapes.items()}
        widths = {shape[axes.index("D")] for shape in shapes.values()}
        if len(widths) > 1:
            raise UserError(f"Arrays of {stream} have different columns: {some(sorted(map(str, widths)))}.")
        plan.axes[stream], plan.widths[stream] = axes, widths.pop()
        plan.says.append(_said(stream, axes, shapes))
    named = {own[0].video: video for video, own in plan.parts.items()}
    counts = {named[video]: min(rows[stream][video] for stream in streams) for video in rows[streams[0]]}
    most = {named[video]: max(rows[stream][video] for stream in streams) for video in rows[streams[0]]}
    if uneven := [video for video in counts if most[video] - counts[video] > 1]:
        raise UserError(f"Streams of {len(uneven)} videos have different rows: {some(uneven)}. Extract both alike.")
    _plan_clock(plan, counts, options)
    if most != counts:
        plan.clock["cut_streams"] = True
    if known and (strangers := [video for video in plan.parts if video not in known]):
        plan.says.append(f"{len(strangers)} feature files are of no annotated video: {some(strangers)}.")


def _said(stream: str, axes: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    words = {"T": "time", "D": "columns", "C": "crops, which are averaged", "1": "1"}
    example = next(iter(shapes.values()))
    lengths = [shape[axes.index("T")] for shape in shapes.values()]
    shown = ", ".join("T" if letter == "T" else str(size) for letter, size in zip(axes, example, strict=True))
    order = ", ".join(words[letter] for letter in axes)
    return (
        f"Features: {len(shapes)} videos, {'whole rows' if stream == JOINT else stream}, arrays [{shown}] "
        f"({order}), T {min(lengths)} to {max(lengths)}."
    )


def _plan_clock(plan: Plan, rows: dict[str, int], options: Options) -> None:
    """Decide what times the rows have, from the durations and frame rates that the annotations state."""
    stated = {video: plan.database[video] for video in rows if video in plan.database} if plan.database else {}
    durations = {video: found for video, one in stated.items() if (found := number(one.get("duration"))) and found > 0}
    rates = {
        video: found for video, one in stated.items() if (found := number(one.get("fps"))) and is_frame_rate(found)
    }
    same_rows, lengths = len(set(rows.values())) == 1, list(durations.values())
    if options.fps is None and options.stride is None and same_rows and lengths and max(lengths) > 1.05 * min(lengths):
        plan.clock = {"resampled": True}
        plan.says.append(f"Time: every video was stretched to {next(iter(rows.values()))} rows.")
        return
    window = options.window or WINDOW
    if options.fps is None and rates and len(rates) == len(stated):
        plan.rates, plan.clock = rates, {"fps_file": FPS_FILE}
        words = "each video's own frame rate, which the annotations state"
    else:
        fps = options.fps or 25.0
        plan.clock, rates = {"fps": float(fps)}, dict.fromkeys(rows, fps)
        words = f"{fps:g} frames/s" + ("" if options.fps else ", assumed (--fps)")
    stride = options.stride or _stride(rows, durations, rates, words)
    plan.clock |= {"snippet_frames": window, "stride": stride or window}
    told = f"stride {stride}" if stride else f"stride {window}, assumed: no video has a duration (--stride)"
    if stride and not options.stride:
        told += f", from {len(durations)} durations"
    plan.says.append(f"Time: {words}; {told}; window {window}{'' if options.window else ', assumed (--window)'}.")


def _stride(rows: dict[str, int], durations: dict[str, float], rates: Mapping[str, float], words: str) -> int | None:
    """Return the whole number of frames between rows that durations and row counts agree on, None without durations."""
    known = [video for video in durations if video in rates]
    if not known:
        return None
    measured = statistics.median(durations[video] * rates[video] / rows[video] for video in known)
    stride = max(1, round(measured))
    fit = [abs(durations[video] * rates[video] / stride - rows[video]) <= 3 + 0.02 * rows[video] for video in known]
    if sum(fit) < FITS * len(fit):
        raise UserError(
            f"Durations and rows do not give a stride: at {words}, a row takes {measured:.2f} frames. "
            "State the true --fps and --stride of the extraction."
        )
    return stride


def write_conversion(plan: Plan, out: Path) -> dict[str, int]:
    """Write what was planned into an absent folder, which appears complete or not at all where the caller renames it.

    Args:
        plan: what to write.
        out: the folder.

    Returns:
        Number of videos with annotations, of instances and labels, and of feature files.

    Raises:
        UserError: a feature file is damaged, or a value in it is not finite.
        StoreError: the folder cannot be written.
    """
    database = plan.database or {}
    if plan.database is not None:
        atomic_write(out / ANNOTATIONS, pretty_json({"version": "converted", "database": database}))
    if plan.ambiguous:
        atomic_write(out / AMBIGUOUS, plan.ambiguous.encode())
    if plan.rates:
        atomic_write(out / FPS_FILE, pretty_json(plan.rates))
    files = 0
    for video, part in _all(plan):
        rows = as_rows(part.read(), plan.axes[part.stream])
        check_finite(rows, f"{part.path}, {part.video}")
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(rows), allow_pickle=False)
        folder = out / "features" if part.stream == JOINT else out / "features" / part.stream
        atomic_write(folder / f"{video}.npy", buffer.getvalue())
        files += 1
    atomic_write(out / "dataset.toml", _describe(plan, out).encode())
    instances = sum(len(entry.get("annotations", ())) for entry in database.values())
    return {"videos": len(database), "instances": instances, "features": files}


def _all(plan: Plan) -> Iterator[tuple[str, Part]]:
    return ((video, part) for video, own in plan.parts.items() for part in own)


def _describe(plan: Plan, out: Path) -> str:
    """Return the text of `dataset.toml`."""
    labels = {one["label"] for entry in (plan.database or {}).values() for one in entry.get("annotations", ())}
    classes = {str(label) for label in labels if str(label).casefold() != "ambiguous"}
    known = next((known for known in with_classes(classes) if known.name == known.family), None)
    title = printable(out.name) or "converted"
    lines = ["# Written by `wstal-bench data convert`. State here what no file shows."]
    if known is not None:
        lines += [f'extends = "{known.name}"', f'name = "{known.name}-converted"']
    else:
        plain = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:80] or "converted"
        lines += [f'name = "{plain}"', f"title = {json.dumps(title, ensure_ascii=False)}"]
    lines.append('extractor = "unknown"')
    clock = plan.clock or {"fps": 25.0, "snippet_frames": WINDOW, "stride": WINDOW}
    lines += [f"{key} = {json.dumps(value)}" for key, value in clock.items()]
    if plan.widths:
        streams: Sequence[str] = [f'{{ name = "{one}", width = {width} }}' for one, width in plan.widths.items()]
        lines.append(f"streams = [{', '.join(streams)}]")
    return "\n".join(lines) + "\n"
