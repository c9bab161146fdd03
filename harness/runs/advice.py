"""Advice on a run that found next to nothing."""

from __future__ import annotations

from harness.records.schema import Record
from wstal.method import TrainSpec


def too_little_found(record: Record) -> str | None:
    """Return what to try where a run has fewer detections than test videos or no hit at all, else None."""
    found, videos, hit = record.found, record.data.test.videos, True
    if record.evaluated:
        videos, hit = record.scored.videos, any(record.scored.mean_ap.values())
    if found >= videos and hit:
        return None
    train = TrainSpec.model_validate(record.recipe.train)
    what = f"{found} detections" if found else "nothing"
    hits = ", and no instance among them" if found and not hit else ""
    return (
        f"{record.method} found {what} in {videos} videos{hits}: its training may be too short, or its rate "
        f"unfit. Try --set train.epochs={4 * train.epochs}, another train.learning_rate (now {train.learning_rate:g}), "
        f"or `wstal-bench tune {record.method}` with the same data."
    )
