"""Videos and classes of a run, each with its own average precision: where a method does well and where not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.records.matches import RunMatches
from wstal.evaluation import class_average_precision
from wstal.evaluation.average_precision import average_precision
from wstal.evaluation.tiou import tiou_key

RULE = (
    "A video's AP is the mean over its annotated classes and the tIoUs of the average precision of its own detections "
    "(of equal ones, more instances come first)."
)


def video_table(matches: RunMatches) -> pd.DataFrame:
    """Return the videos that have instances, worst first.

    Args:
        matches: of a run.

    Returns:
        `video`, `classes`, `instances`, `detections` and `ap` (percent, see `RULE`).
    """
    flags, classes = matches.flags, len(matches.classes)
    group = flags.video * classes + flags.label
    order = np.argsort(group, kind="stable")  # within a class the best come first, and stay so
    bounds = np.searchsorted(group[order], np.arange(len(matches.videos) * classes + 1))
    rows = []
    wanted, positives = np.unique(flags.instance_video * classes + flags.instance_label, return_counts=True)
    for number, count in zip(wanted.tolist(), positives.tolist(), strict=True):
        hit = flags.hit[order[bounds[number] : bounds[number + 1]]]
        ap = average_precision(hit, None, count, "envelope").mean() if len(hit) else 0.0
        rows.append({"video": matches.videos[number // classes], "classes": 1, "instances": count, "ap": 100 * ap})
    table = pd.DataFrame(rows).groupby("video", sort=False)
    found = table.agg({"classes": "sum", "instances": "sum", "ap": "mean"}).reset_index()
    counts = np.bincount(flags.video[flags.video >= 0], minlength=len(matches.videos))
    found["detections"] = [int(counts[matches.videos.index(video)]) for video in found["video"]]
    return found.sort_values(["ap", "instances", "video"], ascending=[True, False, True]).reset_index(drop=True)


def chosen_videos(table: pd.DataFrame) -> dict[str, str]:
    """Return the worst, the median and the best video of `video_table` by these words, each video once."""
    places = {"worst": 0, "median": len(table) // 2, "best": len(table) - 1}
    chosen: dict[str, str] = {}
    for word, place in places.items():
        video = str(table["video"].iloc[place])
        if video not in chosen.values():
            chosen[word] = video
    return chosen


def class_table(matches: RunMatches, tious: Sequence[float] = ()) -> pd.DataFrame:
    """Return the classes that have instances, worst first.

    Args:
        matches: of a run.
        tious: thresholds with a column of their own.

    Returns:
        `class`, `instances`, `detections`, `ap` (percent, mean over all tIoUs) and a column for each of `tious`.
    """
    flags, count = matches.flags, len(matches.classes)
    ap = 100 * class_average_precision(flags, count, matches.protocol)
    table = pd.DataFrame(
        {
            "class": matches.classes,
            "instances": np.bincount(flags.instance_label, minlength=count),
            "detections": np.bincount(flags.label, minlength=count),
            "ap": ap.mean(axis=1),
        }
    )
    keys = [tiou_key(tiou) for tiou in matches.tious]
    for tiou in tious:
        if tiou_key(tiou) in keys:
            table[tiou_key(tiou)] = ap[:, keys.index(tiou_key(tiou))]
    return table[table["instances"] > 0].sort_values(["ap", "class"]).reset_index(drop=True)
