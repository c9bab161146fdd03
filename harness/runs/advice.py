"""Advice on a run that found next to nothing."""

from __future__ import annotations

from harness.records.schema import Record
from wstal.method import TrainSpec


def too_little_found(record: Record) -> str | None:
    """Return what to try where a run has fewer detections than test videos or no hit at all, else None."""
    scored = record.scored
    if scored.detections >= scored.videos and any(scored.mean_ap.values()):
        return None
    train = TrainSpec.model_validate(record.recipe.train)
    found = "nothing" if not scored.detections else f"{scored.detections} detections"
    hits = "" if any(scored.mean_ap.values()) else ", and no instance among them" * bool(scored.detections)
    return (
        f"{record.method} found {found} in {scored.videos} videos{hits}: its training may be too short, or its rate "
        f"unfit. Try --set train.epochs={4 * train.epochs}, another train.learning_rate (now {train.learning_rate:g}), "
        f"or `wstal-bench tune {record.method}` with the same data."
    )
