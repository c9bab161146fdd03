"""Page of a finished run: numbers, classes, typical videos with their timelines, errors and training.

Without ground truth of the test videos: detections and timelines.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from harness.charts.figure import Figure
from harness.charts.timeline import timeline_figure
from harness.charts.training import draw_for_page
from harness.comparisons.timelines import ShownRun, timeline
from harness.comparisons.videos import RULE, chosen_videos, class_table, video_table
from harness.io.atomic import atomic_write
from harness.io.console import ProgressReport
from harness.pages.diagnosis import diagnosis_blocks
from harness.pages.html import html_report
from harness.pages.model import Blocks, Page, Table
from harness.records.matches import matches_of
from harness.records.run_folder import FinishedRun, chart_run
from harness.records.schema import Record
from harness.records.words import changes, widest_average
from harness.studies.diagnosis import diagnose_run
from wstal.errors import UserError
from wstal.evaluation import get_protocol

TIOU = 0.5
MOST_VIDEOS = 10
PAGE = "page.html"


def write_run_page(
    run: FinishedRun, folder: Path | None = None, annotations: Path | None = None, data: Path | None = None
) -> Path:
    """Write a run's page as one HTML file and return its path.

    Args:
        run: the run.
        folder: where to write (default: the run's folder, as `page.html`; in another folder the name is the run's id).
        annotations: ground truth, for a run that stored none.
        data: folder of features that `data extract` made, whose key frames are shown.

    Raises:
        UserError: as `run_page`.
        StoreError: as `run_page`, or the folder cannot be written.
    """
    page = run_page(run, annotations, data)
    path = run.folder / PAGE if folder is None else folder / f"{run.record.id}.html"
    atomic_write(path, html_report([page], page.title).encode())
    return path


def write_run_pages(folders: Sequence[Path], processes: int, data: Path | None = None) -> None:
    """Write the page of each finished run into its folder; one that cannot be made is told and left out.

    Args:
        folders: of the runs.
        processes: number of processes that share the work.
        data: folder of features that `data extract` made, whose key frames are shown.
    """
    with ProgressReport() as progress, ProcessPoolExecutor(max(1, min(processes, len(folders)))) as pool:
        pages = [pool.submit(_page_or_reason, folder, data) for folder in folders]
        for number, made in enumerate(as_completed(pages), 1):
            if reason := made.result():
                progress.say(reason)
            progress.update("pages", number, len(folders), "")


def _page_or_reason(folder: Path, data: Path | None) -> str:
    try:
        write_run_page(FinishedRun.open(folder), data=data)
    except UserError as error:  # such as no instance in the test videos
        return f"{folder} has no page: {error}"
    return ""


def run_page(run: FinishedRun, annotations: Path | None = None, data: Path | None = None) -> Page:
    """Build the page of a run.

    Args:
        run: the run.
        annotations: ground truth, for a run that stored none.
        data: folder of features that `data extract` made, whose key frames are shown.

    Raises:
        UserError: there is no ground truth.
        StoreError: a file of the run is damaged.
    """
    record, shown = run.record, ShownRun(run, annotations, data)
    if not record.evaluated:
        return _page(run, _unjudged(shown))
    matches = matches_of(run, annotations)
    videos, classes = video_table(matches), class_table(matches, (0.3, TIOU, 0.7))
    chosen = chosen_videos(videos)
    diagnosed = diagnose_run(run, shown.truth)
    blocks: Blocks = [
        _summary(run, len(videos)),
        Table(None, "Mean average precision (%)", _metrics(run)),
        "## Typical videos",
        f"{RULE} Hits have tIoU {TIOU:g}. Of each class at most 20 detections are shown.",
    ]
    for word, video in chosen.items():
        row = videos[videos["video"] == video].iloc[0]
        blocks += [
            f"### {word.capitalize()}: AP {row['ap']:.1f} %, {row['instances']} instances",
            timeline_figure(f"timeline-{word}", timeline([shown], video, tiou=TIOU)),
        ]
    blocks += [
        "## Classes",
        Table(None, "Average precision of each class (%), worst first", _rounded(classes)),
        "## Videos",
        Table(None, f"Average precision of the {MOST_VIDEOS} worst videos (%)", _rounded(videos[:MOST_VIDEOS])),
        Table(
            None, f"Average precision of the {MOST_VIDEOS} best videos (%)", _rounded(videos[: -MOST_VIDEOS - 1 : -1])
        ),
        *diagnosis_blocks([diagnosed]),
    ]
    return _page(run, blocks)


def _page(run: FinishedRun, blocks: Blocks) -> Page:
    """Return the page with the figure of the training at its end."""
    record = run.record
    losses = draw_for_page(run.history(), chart_run(record))
    training: Blocks = ["## Training", Figure("training", "Losses by step and diagnostics by epoch", losses)]
    return Page("run", f"{record.title}, seed {record.seed}", [*blocks, *training], synthetic=record.synthetic)


def _unjudged(shown: ShownRun) -> Blocks:
    """Return what there is to see of a run without ground truth: its detections, and timelines of a few videos."""
    record, found = shown.run.record, shown.detections
    listed = dict(zip(found.videos, np.bincount(found.video, minlength=len(found.videos)).tolist(), strict=True))
    counts = {video: listed.get(video, 0) for video in shown.scores.videos}
    ranked = sorted(counts, key=lambda video: (-counts[video], video))
    chosen = dict.fromkeys((ranked[0], ranked[len(ranked) // 2], ranked[-1]))
    by_class = np.bincount(found.label, minlength=len(found.classes)).tolist()
    blocks: Blocks = [
        f"{record.title} on {record.data.title}: {record.found} detections in {len(counts)} videos, without ground "
        f"truth, so without mAP. {_training(record)}",
        "## Videos",
        "Those with the most detections, with the median number and with the fewest. Of each class at most 20 "
        "detections are shown, stronger where their score is higher.",
    ]
    for number, video in enumerate(chosen):
        drawn = timeline_figure(f"timeline-{number}", timeline([shown], video))
        blocks += [f"### {counts[video]} detections", drawn]
    return [
        *blocks,
        Table(None, f"Detections of the {MOST_VIDEOS} videos that have most", [
            {"video": video, "detections": str(counts[video])} for video in ranked[:MOST_VIDEOS]
        ]),
        "## Classes",
        Table(None, "Detections of each class", [
            {"class": label, "detections": str(count)} for label, count in zip(found.classes, by_class, strict=True)
        ]),
    ]  # fmt: skip


def _summary(run: FinishedRun, videos: int) -> str:
    record = run.record
    averages = record.scored.averages
    name = widest_average(averages) if averages else ""
    headline = f"mean mAP {name} is **{averages[name]:.2f} %**" if name else "no usual average"
    return (
        f"{record.title} on {record.data.title}: {headline} under `{record.headline}` "
        f"({get_protocol(record.headline).meaning}), {videos} videos with instances. "
        f"{_training(record)}"
    )


def _training(record: Record) -> str:
    changed = f" Changed options: {changes(record.overrides)}." if record.overrides else ""
    return f"Trained {record.recipe.train['epochs']} epochs with seed {record.seed}; run `{record.id}`.{changed}"


def _metrics(run: FinishedRun) -> list[dict[str, str]]:
    return [
        {"protocol": name}
        | {tiou: f"{value:.2f}" for tiou, value in metrics.mean_ap.items()}
        | {f"mean {name}": f"{value:.2f}" for name, value in metrics.averages.items()}
        for name, metrics in run.record.metrics.items()
    ]


def _rounded(table: object) -> list[dict[str, str]]:
    import pandas as pd

    assert isinstance(table, pd.DataFrame)
    rows = table.to_dict("records")
    return [
        {str(name): f"{value:.1f}" if isinstance(value, float) else str(value) for name, value in row.items()}
        for row in rows
    ]
