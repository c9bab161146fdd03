"""Recipes fitted to the size of a data set, under a cap of computation: one's own data, and sets that ask for it."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from harness.data.source import DataSource
from harness.runs.schedules import Schedule, schedule_for
from wstal.families import TRAINING_VIDEOS
from wstal.method import Recipe
from wstal.spec import EPOCHS

MOST_STEPS, OF_VIDEOS = 2_400, 16
FEWEST_EPOCHS = 20


def is_fitted(source: DataSource) -> bool:
    """Return whether methods train by fitted recipes: the shipped schedule says so, or neither one nor a paper covers
    the real data.
    """
    shipped = schedule_for(source.schedule)
    own = not source.synthetic and source.family not in TRAINING_VIDEOS and shipped == Schedule()
    return shipped.fitted or own


def fitted_options(own: Recipe, source: DataSource) -> dict[str, Any]:
    """Return the changes of a recipe that fit it to a data set's size.

    Videos are sampled to the least power of two that their median length does not exceed, but to no more rows than in
    the recipe. Training takes as many steps as the recipe on THUMOS14 but no more than 2,400 of 16 videos, or as many
    videos in other batches, and no fewer than 20 epochs unless the recipe has fewer. What counts epochs is scaled
    alike. Rates stay.

    Args:
        own: a method's recipe.
        source: the data set.

    Returns:
        Values by dotted name; none where `is_fitted` is false.
    """
    if not is_fitted(source):
        return {}
    train, rows = own.train, source.training_rows
    videos_of_a_step = train.batch_size * train.accumulate
    steps = min(train.epochs * TRAINING_VIDEOS["thumos14"], MOST_STEPS * OF_VIDEOS) / videos_of_a_step
    epochs = round(steps / math.ceil(len(rows) / videos_of_a_step))
    epochs = max(epochs, min(FEWEST_EPOCHS, train.epochs))

    def scaled(count: int) -> int:
        return max(1, round(count * epochs / train.epochs))

    counts = {
        f"method.{name}": scaled(getattr(own.method, name))
        for name, field in type(own.method).model_fields.items()
        if EPOCHS in field.metadata
    }
    if train.decay_every is not None:
        # rounded up: a decay that comes halfway, or at the end, has no other in the last epoch
        counts["train.decay_every"] = math.ceil(train.decay_every * epochs / train.epochs)
    sampled = min(train.temporal_length, source.sample_length or _sampled(rows))
    return counts | {"train.temporal_length": sampled, "train.epochs": epochs}


def _sampled(rows: tuple[int, ...]) -> int:
    return 1 << math.ceil(math.log2(median(rows)))


def fitted_notes(source: DataSource) -> tuple[str, ...]:
    """Return what was chosen where recipes are fitted and no shipped schedule says so, for people."""
    if not is_fitted(source) or schedule_for(source.schedule).fitted:
        return ()
    rows = source.training_rows
    sampled = source.sample_length or _sampled(rows)
    return (
        f"No schedule is known for {source.name}, so each method's recipe is fitted to {len(rows)} training videos of "
        f"{median(rows):g} rows (median): T = {sampled}, or less as in the recipe, and its steps on THUMOS14, at most "
        f"{MOST_STEPS:,} of {OF_VIDEOS} videos. `wstal-bench tune METHOD` looks for better values.",
    )
