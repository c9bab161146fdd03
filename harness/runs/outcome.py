"""What a run's record says of its numbers; a run without ground truth of its test videos has none."""

from __future__ import annotations

from typing import Any

from harness.data.source import DataSource
from harness.records.schema import SCHEMA
from harness.runs.spec import RunSpec
from wstal.evaluation import EvaluationResult, Protocol, evaluate, get_protocol, protocols_for, to_json
from wstal.method import Method
from wstal.types import Detections, GroundTruth


def protocols_of(source: DataSource, truth: GroundTruth) -> tuple[Protocol, ...]:
    """Return the protocols under which runs on a data set are scored, none where the test videos have no instance.

    Args:
        source: the data set.
        truth: of its test videos.
    """
    if not len(truth):
        return ()
    # videos held out or generated may have THUMOS14's names without being its test videos
    foreign = "thumos14" if source.headline == "anet" else None
    return tuple(protocol for protocol in protocols_for(truth) if protocol.defined_on != foreign)


def headline_metrics(detections: Detections, truth: GroundTruth, source: DataSource) -> dict[str, Any] | None:
    """Return the numbers under the headline protocol, None where there is no ground truth.

    Args:
        detections: in the test videos.
        truth: of these.
        source: the data set.
    """
    if not len(truth):
        return None
    return _metrics(evaluate(detections, truth, get_protocol(source.headline), source.tious))


def outcome(
    spec: RunSpec, source: DataSource, cls: type[Method], results: dict[str, EvaluationResult], detections: Detections
) -> dict[str, Any]:
    """Return the fields of a run's record that say what was run and how it scored.

    Args:
        spec: the run.
        source: its data.
        cls: class of the method.
        results: evaluations by protocol, none without ground truth.
        detections: in the test videos.
    """
    more = {} if cls.supervision == "weak" else {"supervision": cls.supervision}
    return {
        "schema": SCHEMA,
        "id": spec.id,
        "digest": spec.digest,
        "status": "done",
        "synthetic": source.synthetic,
        "method": spec.method,
        "title": cls.title + spec.recipe.method.title_note + spec.recipe.localizer.title_note,
        **more,
        "seed": spec.seed,
        "data": spec.data,
        "classes": list(source.classes),
        "recipe": spec.recipe.model_dump(mode="json"),
        **spec.recipe_changes,
        "headline": source.headline,
        "metrics": {name: _metrics(result) for name, result in results.items()},
        **({} if results else {"detections": len(detections)}),
        "per_class": _per_class(results[source.headline]) if results else [None] * len(source.classes),
    }


def _per_class(headline: EvaluationResult) -> list[list[float] | None]:
    return [
        [100 * float(ap) for ap in row] if positives else None
        for row, positives in zip(headline.ap, headline.positives, strict=True)
    ]


def _metrics(result: EvaluationResult) -> dict[str, Any]:
    return {name: value for name, value in to_json(result).items() if name != "per_class"}
