"""A small valid record, for tests that need one."""

from __future__ import annotations

import hashlib
from typing import Any

from harness.records.schema import SCHEMA, Metrics, Record, run_id


def make_record(
    method: str = "acmnet",
    seed: int = 0,
    value: float = 20.0,
    classes: tuple[str, str] = ("Jump", "Run"),
    **changes: Any,
) -> dict[str, Any]:
    """The JSON of a record of two classes whose mAP falls from `value` at tIoU 0.1 to `value - 8` at 0.5.

    `changes` replace fields. The digest is of the arguments, the id follows from data, method, seed and digest.
    Synthetic data get a generator, a recipe the parts that it lacks. What `read_record` would refuse is no fixture.
    """
    digest = hashlib.sha256(repr((method, seed, value, sorted(changes.items()))).encode()).hexdigest()
    falling = {f"0.{tenth}": value - 2 * (tenth - 1) for tenth in range(1, 6)}
    metrics = {
        "mAP": falling,
        "averages": {"0.1:0.5": value - 4},
        "videos": 2,
        "instances": 5,
        "detections": 9,
    }
    record = {
        "schema": SCHEMA,
        "id": "",
        "digest": digest,
        "status": "done",
        "synthetic": False,
        "method": method,
        "title": method.upper(),
        "seed": seed,
        "data": {
            "name": "data", "title": "Data", "features": "RGB", "width": 16,
            "train": {"list": "l", "videos": 4}, "test": {"list": "m", "videos": 2}, "labels": "official",
        },
        "classes": list(classes),
        "recipe": {"method": {}, "train": {"epochs": 3}, "localizer": {}},
        "schedule": {"train.epochs": 3},
        "ablation": None,
        "overrides": {},
        "headline": "anet",
        "metrics": {"anet": metrics},
        "per_class": [[one + away for one in falling.values()] for away in (1, -1)],
        "common_localizer": None,
        "training": {"parameters": 7, "weights_of": None, "final_loss": {"total": 0.5}, "diagnostics": {}},
        "environment": {
            "wstal-bench": "0", "commit": "c" * 40, "method": "m", "python": "3", "packages": {"torch": "2"},
            "device": "cpu", "cpu": "c", "threads": 1, "system": "s",
        },
        "artefacts": {
            name: hashlib.sha256(f"{name} {digest}".encode()).hexdigest()
            for name in ("weights.safetensors", "scores.safetensors", "detections.json.gz", "history.json")
        },
        **changes,
    }  # fmt: skip
    if record["synthetic"]:
        record["data"] = {"generator": {"seed": 0}} | record["data"]
    record["recipe"] = {"method": {}, "train": {}, "localizer": {}} | record["recipe"]
    record["id"] = run_id(record["data"]["name"], record["method"], record["seed"], record["digest"])
    as_record(record)
    return record


def without_evaluation(record: dict[str, Any], detections: int = 9) -> dict[str, Any]:
    """The JSON of the same record, had its test videos no ground truth."""
    return record | {"metrics": {}, "per_class": [None] * len(record["classes"]), "detections": detections}


def as_record(record: dict[str, Any]) -> Record:
    """The record of its JSON."""
    return Record.model_validate(record)


def unchecked(record: dict[str, Any]) -> Record:
    """The record of its JSON with the id that follows, whatever its metrics: pages show them and do not judge."""
    good = make_record()
    names = ("metrics", "headline", "common_localizer", "classes", "per_class")
    common = record["common_localizer"]
    kept = {name: good[name] for name in names} | {
        "id": run_id(record["data"]["name"], record["method"], record["seed"], record["digest"]),
        "synthetic": "generator" in record["data"],
    }
    return as_record(record | kept).model_copy(
        update={name: record[name] for name in (*names, "synthetic")}
        | {
            "metrics": {name: _metrics(one) for name, one in record["metrics"].items()},
            "common_localizer": common and _metrics(common),
        }
    )


def _metrics(values: dict[str, Any]) -> Metrics:
    return Metrics.model_construct(**{"mean_ap" if name == "mAP" else name: one for name, one in values.items()})
