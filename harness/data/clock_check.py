"""Checks of a data set's rows: their shape, and their clock against durations or else instances."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.data.dataset import Dataset
from harness.data.features import some
from harness.data.source import Subset
from wstal.errors import UserError

SAMPLE = 256  # videos per subset whose rows are compared with their durations
USUAL_WIDTHS = (512, 1024, 2048, 4096)

Rows = Mapping[str, int]


def sample_rows(data: Dataset, subset: Subset, strict: bool = True) -> dict[str, int]:
    """Read the number of rows of a sample of a subset's videos.

    Args:
        data: the data set.
        subset: the subset.
        strict: whether to raise the error of a file, instead of leaving out its video.

    Raises:
        UserError: a file cannot be used, if `strict`.
    """
    available = data.subsets[subset].available
    rows = {}
    for video in available[:: max(1, len(available) // SAMPLE)]:
        try:
            rows[video] = data.files(subset, video).header().rows
        except UserError:
            if strict:
                raise
    return rows


def shape(data: Dataset, rows: Rows) -> tuple[str, list[str]]:
    """Return the rows and columns of the features in words, and what is unusual about them.

    Args:
        data: the data set.
        rows: number of rows by video.
    """
    counts, width = sorted(set(rows.values())), data.columns.width
    span = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    unusual = []
    if seems_transposed(data, rows):
        unusual.append(
            f"{counts[0]} rows of {max(data.columns.widths)} columns look like arrays saved as [width, T]: "
            "save each one transposed, as [T, width]."
        )
    if data.descriptor.resampled and len(counts) > 1:
        listed = " and ".join(map(str, counts)) if len(counts) < 4 else span
        unusual.append(f"`resampled` means one fixed number of rows, these videos have {listed}.")
    return f"Features: {span} rows of {width} columns a video.", unusual


def seems_transposed(data: Dataset, rows: Rows) -> bool:
    """Return whether all videos have as many rows as features usually have columns, and other columns.

    Args:
        data: the data set.
        rows: number of rows by video.
    """
    counts, widths = set(rows.values()), data.columns.widths
    return len(counts) == 1 and counts <= set(USUAL_WIDTHS) and max(widths) < min(counts) and not set(widths) & counts


def late_instances(data: Dataset, rows: Rows) -> dict[str, tuple[int, int, float]]:
    """Count the instances that start after the last row, of videos whose duration is not known.

    Args:
        data: the data set.
        rows: number of rows by video.

    Returns:
        (instances that start later, all instances, seconds at which the last row ends) by video.
    """
    found = {}
    content = data.annotations
    place = {video: i for i, video in enumerate(content.videos)}
    for video, count in rows.items():
        if data.descriptor.resampled or data.clock.durations[video]:
            continue
        seconds, offset = data.clock.row_time(video, count)
        starts = content.start[content.video == place[video]]
        found[video] = (int(np.sum(starts > offset + count * seconds)), len(starts), offset + count * seconds)
    return found


def check_clock(data: Dataset, subset: Subset, rows: Rows) -> list[str]:
    """Check a subset's clock against the durations, or the instances of videos that have no duration.

    Args:
        data: the data set.
        subset: the subset.
        rows: number of rows of a sample of its videos.

    Returns:
        Notes on the videos that do not fit, or could not be checked.

    Raises:
        UserError: most of the videos do not fit by more than a row.
    """
    clock, toml = data.clock, data.data_dir / "dataset.toml"
    excess = {video: more for video, count in rows.items() if (more := clock.excess_rows(video, count)) is not None}
    wrong = [video for video, more in excess.items() if abs(more) > 1]
    counted = f"{len(wrong)} of {len(excess)} {subset} videos"
    if 2 * len(wrong) > len(excess):
        video = wrong[0]
        remedy = (
            f"State the true fps, snippet_frames and stride in {toml}, or `resampled = true` for features "
            "stretched to a fixed number of rows."
        )
        if seems_transposed(data, rows):
            remedy = "They look like arrays saved as [width, T]: save each one transposed, as [T, width]."
        raise UserError(
            f"Row counts of {counted} contradict their durations under {data.name}'s clock: {video} has {rows[video]} "
            f"rows, {rows[video] - excess[video]} fit its {clock.durations[video]:.1f} s. {remedy}"
        )
    notes = [f"{counted} have more or fewer rows than their durations say: {some(wrong)}."] if wrong else []
    without = late_instances(data, rows)
    late, total = (sum(counts[i] for counts in without.values()) for i in (0, 1))
    if 2 * late > total:
        video, (_, _, end) = next((video, one) for video, one in without.items() if one[0])
        raise UserError(
            f"{late} of {total} instances of {subset} videos without a duration start after the last row under "
            f"{data.name}'s clock: the {rows[video]} rows of {video} end at {end:.1f} s. "
            f"State the true fps, snippet_frames and stride in {toml}."
        )
    if without:
        notes.append(
            f"{len(without)} of {len(rows)} {subset} videos have no duration: their clock could not be checked."
        )
    return notes
