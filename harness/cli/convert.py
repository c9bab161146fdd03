"""Command `wstal-bench data convert`: from what other projects hold to the layout of this one."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from harness.cli.options import Commands, whole_number
from harness.io.console import say
from wstal.errors import StoreError, UserError

ARRAYS = ("videoname.npy", "video_names.npy")  # of W-TALC and HAAN
DETECTIONS = "detections.json"
MOST_FRAMES = 10_000


def add(actions: Commands) -> None:
    """Declare the action and its options."""
    convert = actions.add_parser(
        "convert",
        handle=handle,
        help="convert features, annotations and detections of other projects",
        description="Convert what other projects hold into the folder layout and ActivityNet-style JSON. What is\n"
        "found is told before anything is written, and what may be read in two ways asks for an option.\n\n"
        "features:     a folder of .npy, .npz, .pt, .h5 or .csv files, one a video or one a stream of a video\n"
        "              (<video>_rgb.npy, rgb/<video>.npy); one .h5 file of all videos; [T, D], [D, T], or with crops\n"
        "              [T, 10, D], which are averaged; W-TALC's joint array\n"
        "annotations:  ActivityNet-style JSON (ActionFormer's too, with its fps), THUMOS14's text files, labels.csv,\n"
        "              W-TALC's and HAAN's arrays\n"
        "detections:   text of THUMOS14's kit, `video start end class score`\n\n"
        "Only this command reads pickled files, with an unpickler that accepts nothing but NumPy arrays.",
        epilog="examples:\n"
        "  wstal-bench data convert --annotations Thumos14reduced-Annotations \\\n"
        "      --features Thumos14reduced-I3D-JOINTFeatures.npy --out ~/thumos14\n"
        "  wstal-bench data convert --annotations thumos14.json --features i3d_features --out ~/thumos14\n"
        "  wstal-bench data convert --detections results.txt --out detections",
    )
    convert.add_argument("--annotations", type=Path, metavar="PATH", help="file or folder")
    convert.add_argument("--features", type=Path, metavar="PATH", help="file or folder")
    convert.add_argument("--detections", type=Path, metavar="FILE", help="text of detections; alone")
    convert.add_argument(
        "--class-names", type=Path, metavar="FILE", help="for numbers of classes: a JSON object, number to name"
    )
    fps = "frames per second at which the features were extracted (default: as the annotations state, else 25)"
    convert.add_argument("--fps", type=float, metavar="N", help=fps)
    frames = whole_number(1, MOST_FRAMES)
    convert.add_argument("--window", type=frames, metavar="N", help="frames of a row (default: 16)")
    stride = "frames from row to row (default: from durations, else the window)"
    convert.add_argument("--stride", type=frames, metavar="N", help=stride)
    axes = "order of an array's axes: TD, DT, TCD, CTD, ... with T time, D columns, C crops"
    convert.add_argument("--axes", type=str.upper, metavar="A", help=axes)
    convert.add_argument("--key", metavar="K", help="array to take from files of several")
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder to make")


def handle(arguments: argparse.Namespace) -> int:
    """Convert files of other projects."""
    if arguments.annotations is None and arguments.features is None and arguments.detections is None:
        raise UserError("There is nothing to convert: give --annotations, --features or --detections.")
    if arguments.detections is not None:
        if arguments.annotations is not None or arguments.features is not None:
            raise UserError("--detections are converted alone. Convert annotations and features by another command.")
        return _detections(arguments)
    folder = arguments.annotations
    if folder is not None and any(os.path.lexists(folder / name) for name in ARRAYS):
        return _arrays(arguments)
    return _files(arguments)


def _arrays(arguments: argparse.Namespace) -> int:
    """Convert W-TALC's or HAAN's arrays."""
    from harness.data.convert import convert

    names, fps = arguments.class_names, 25.0 if arguments.fps is None else arguments.fps
    converted = convert(arguments.annotations, arguments.out, arguments.features, names, fps)
    say(*converted.notes)
    _done(arguments.out, sum(converted.videos.values()), converted.instances, converted.features)
    return 0


def _files(arguments: argparse.Namespace) -> int:
    """Convert files that stand alone."""
    from harness.data.convert_files import Options, plan_conversion, write_conversion

    _check_new(arguments.out)
    options = Options(arguments.fps, arguments.window, arguments.stride, arguments.axes, arguments.key)
    plan = plan_conversion(arguments.annotations, arguments.features, options)
    say(*plan.says)
    out: Path = arguments.out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", ignore_cleanup_errors=True) as beside:
            complete = Path(beside) / out.name
            written = write_conversion(plan, complete)
            complete.replace(out)
    except OSError as error:
        raise StoreError(f"Cannot write {out}: {error.strerror}. Free some room or choose another one.") from error
    _done(out, written["videos"], written["instances"], written["features"])
    return 0


def _detections(arguments: argparse.Namespace) -> int:
    """Convert detections of THUMOS14's kit."""
    from harness.data.convert import class_names_of
    from harness.data.detections import write_detections
    from harness.data.thumos_text import read_kit_detections

    _check_new(arguments.out)
    names = None if arguments.class_names is None else class_names_of(arguments.class_names)
    found = read_kit_detections(arguments.detections, names)
    say(f"Detections: text of THUMOS14's kit, {len(found.videos)} videos, {len(found.classes)} classes.")
    write_detections(arguments.out / DETECTIONS, found)
    say(f"Done: {len(found)} detections in {arguments.out / DETECTIONS}")
    return 0


def _check_new(out: Path) -> None:
    if os.path.lexists(out) and not (os.path.isdir(out) and not os.listdir(out)):
        raise UserError(f"{out} is not an empty folder. Choose another one: nothing is overwritten.")


def _done(out: Path, videos: int, instances: int, features: int) -> None:
    check = f"check them with `wstal-bench data verify {out}`" if features else "add features/"
    say(f"Done: {videos} videos, {instances} instances and {features} feature files in {out}; {check}")
