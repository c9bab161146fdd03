"""A small valid record, for tests that need one."""

from __future__ import annotations

import hashlib
from typing import Any

from harness.records.schema import SCHEMA, Record, run_id


def make_record(
    method: str = "acmnet",
    seed: int = 0,
    value: float = 20.0,
    classes: tuple[str, str] = ("Jump", "Run"),
    **changes: Any,
) -> dict[str, Any]:
    """A record of two classes whose mAP falls from `value` at tIoU 0.1 to `value - 8` at 0.5; `changes` replace fields.

    The digest is of the arguments, the id follows from data, method, seed and digest. Synthetic data get a generator,
    a recipe the parts that it lacks. What `read_record` would refuse is no fixture.
    """
    digest = hashlib.sha256(repr((method, seed, value, sorted(changes.items()))).encode()).hexdigest()
    falling = {f"0.{tenth}": value - 2 * (tenth - 1) for tenth in range(1, 6)}
    metrics = {
        "mAP": falling,
        "averages": {"0.1:0.5": value - 4},
        "per_class": {
            label: {tiou: one + away for tiou, one in falling.items()}
            for label, away in zip(classes, (1, -1), strict=True)
        },
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
            "name": "data", "title": "Data", "features": "RGB", "width": 16, "labels": "official",
            "train": {"list": "l", "videos": 4}, "test": {"list": "m", "videos": 2},
        },
        "classes": list(classes),
        "recipe": {"method": {}, "train": {"epochs": 3}, "localizer": {}},
        "schedule": {"train.epochs": 3},
        "ablation": None,
        "overrides": {},
        "headline": "anet",
        "metrics": {"anet": metrics},
        "common": None,
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
        record["data"] = {"generator": {"seed": 0}, **record["data"]}
    record["recipe"] = {"method": {}, "train": {}, "localizer": {}} | record["recipe"]
    record["id"] = run_id(record["data"]["name"], record["method"], record["seed"], record["digest"])
    Record.model_validate(record)
    return record
