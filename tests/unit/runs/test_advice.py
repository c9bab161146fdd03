"""Advice on runs that found next to nothing."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.schema import Record
from harness.runs.advice import too_little_found
from tests.helpers.records import make_record, without_evaluation


def record(value: float = 20.0, **changes: Any) -> Record:
    made = Record.model_validate(make_record(value=value))
    metrics = made.scored.model_copy(update=changes)
    recipe = made.recipe.model_copy(update={"train": {"epochs": 3, "learning_rate": 1e-4}})
    return made.model_copy(update={"metrics": {made.headline: metrics}, "recipe": recipe})


def test_a_run_that_found_something_gets_no_advice() -> None:
    assert too_little_found(record()) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detections": 0, "mean_ap": {"0.1": 0.0}}, "found nothing in 2 videos: "),
        ({"detections": 1}, "found 1 detections in 2 videos: "),
        ({"detections": 9, "mean_ap": {"0.1": 0.0}}, "found 9 detections in 2 videos, and no instance among them: "),
    ],
)
def test_a_run_that_found_next_to_nothing_is_told_what_to_try(changes: dict[str, Any], words: str) -> None:
    advice = too_little_found(record(**changes))
    assert advice is not None
    assert words in advice
    assert "train.epochs=12" in advice
    assert "now 0.0001" in advice
    assert "wstal-bench tune acmnet" in advice


@pytest.mark.parametrize(("detections", "words"), [(0, "found nothing in 2 videos: "), (2, None)])
def test_without_ground_truth_too_few_detections_alone_are_told(detections: int, words: str | None) -> None:
    recipe = {"train": {"epochs": 3, "learning_rate": 1e-4}}
    bare = without_evaluation(make_record(recipe=recipe), detections)
    advice = too_little_found(Record.model_validate(bare))
    assert (advice is None) if words is None else words in (advice or "")
