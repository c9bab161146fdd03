"""Command `wstal-bench show`: what finished runs made of each video."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.cli.options import Commands, add_store_option
from harness.io.console import say
from wstal.errors import UserError

if TYPE_CHECKING:
    from harness.records.run_folder import FinishedRun

LONGEST_NAME = 100  # letters of a file's name


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "show",
        handle=handle,
        help="draw what finished runs made of videos, or write a run's page",
        description="With videos: draw a timeline of each (ground truth, detections with hits and misses, attention,\n"
        "class activation) as SVG and PNG; several runs are stacked. Without: write a page of each run, one HTML file\n"
        "with its numbers, classes, typical videos, error types and training.",
        epilog="examples:\n"
        "  wstal-bench show runs/runs/RUN\n"
        "  wstal-bench show runs/runs/RUN video_test_0000004\n"
        "  wstal-bench show RUN-ID OTHER-RUN-ID video_test_0000004 --from 60 --to 180 --out figures",
    )
    command.add_argument(
        "names", nargs="+", metavar="RUN [VIDEO]", help="folders or ids of finished runs, then names of videos"
    )
    command.add_argument(
        "--annotations", type=Path, metavar="PATH", help="ground truth, for runs that stored none (older versions)"
    )
    command.add_argument(
        "--data", type=Path, metavar="DIR", help="features by `data extract`, whose key frames become thumbnails"
    )
    command.add_argument("--tiou", type=float, default=0.5, metavar="X", help="of a hit (default: 0.5)")
    command.add_argument("--from", type=float, default=0.0, metavar="S", dest="start", help="first second to show")
    command.add_argument("--to", type=float, metavar="S", dest="end", help="last second to show")
    command.add_argument(
        "--losses", action="store_true", help="write only the losses by step, as RUN/diagnostics.svg or DIR/ID.svg"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="(default: the first run's own folder)")
    add_store_option(command, "folder of runs, where ids are looked up (default: runs)")


def handle(arguments: argparse.Namespace) -> int:
    """Draw timelines or write run pages."""
    runs, videos = _split(arguments.names, arguments.store)
    if not 0 < arguments.tiou <= 1:
        raise UserError(f"Expected --tiou within (0, 1], got {arguments.tiou:g}.")
    if arguments.losses:
        return _losses(arguments, runs)
    return _timelines(arguments, runs, videos) if videos else _pages(arguments, runs)


def _split(names: Sequence[str], store: Path) -> tuple[list[FinishedRun], list[str]]:
    """Return the runs and the videos among names: what is no run after the first one is a video."""
    from harness.records.files import RECORD
    from harness.records.run_folder import FinishedRun
    from harness.records.store import Store

    runs: list[FinishedRun] = []
    videos: list[str] = []
    for name in names:
        places = [Path(name), Store(store).run_folder(name)] if "/" not in name else [Path(name)]
        folder = next((place for place in places if (place / RECORD).is_file()), None)
        if folder is not None:
            runs.append(FinishedRun.open(folder))
        elif not runs:
            FinishedRun.open(places[0])  # says what is wrong with it
        else:
            videos.append(name)
    return runs, videos


def _timelines(arguments: argparse.Namespace, runs: Sequence[FinishedRun], videos: Sequence[str]) -> int:
    from harness.charts.timeline import timeline_figure, timeline_png
    from harness.comparisons.runs import check_comparable
    from harness.comparisons.timelines import ShownRun, timeline
    from harness.io.atomic import atomic_write

    for run in runs[1:]:
        check_comparable(runs[0].record, run.record)
    shown = [ShownRun(run, arguments.annotations, arguments.data) for run in runs]
    drawn = [timeline(shown, video, tiou=arguments.tiou, start=arguments.start, end=arguments.end) for video in videos]
    folder = arguments.out or runs[0].folder / "timelines"
    for one in drawn:
        stem = _file_name(one.video)
        atomic_write(folder / f"{stem}.svg", timeline_figure(stem, one).svg.encode())
        atomic_write(folder / f"{stem}.png", timeline_png(one))
        atomic_write(folder / f"{stem}-dark.png", timeline_png(one, dark=True))
        print(folder / f"{stem}.svg")
    say(f"Done: {len(drawn)} timeline(s), each as .svg, .png and -dark.png, in {folder}")
    return 0


def _losses(arguments: argparse.Namespace, runs: Sequence[FinishedRun]) -> int:
    from harness.charts.training import draw
    from harness.io.atomic import atomic_write
    from harness.records.files import FIGURE
    from harness.records.run_folder import chart_run

    # every run is read before the first figure is written
    drawn = [(run, draw(run.history(), chart_run(run.record))) for run in runs]
    for run, figure in drawn:
        path = arguments.out / f"{run.record.id}.svg" if arguments.out else run.folder / FIGURE
        atomic_write(path, figure)
        print(path)
    say(f"Done: {len(drawn)} figure(s)")
    return 0


def _pages(arguments: argparse.Namespace, runs: Sequence[FinishedRun]) -> int:
    from harness.pages.run_page import write_run_page

    for run in runs:
        print(write_run_page(run, arguments.out, arguments.annotations, arguments.data))
    say(f"Done: {len(runs)} page(s)")
    return 0


def _file_name(video: str) -> str:
    """Return a name for a video's files that every file system takes."""
    name = quote(video, safe=" ").replace(" ", "_").replace(".", "%2E")
    return name if len(name) <= LONGEST_NAME else f"{name[:60]}-{hashlib.sha256(video.encode()).hexdigest()[:16]}"
