"""Migrations of older records: pure functions from one schema to the next, and methods that were renamed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.records.schema import SCHEMA, identity_digest, possible_tious, run_id
from harness.registry import RENAMED

# titles of the renamed methods, by new name
TITLES = {
    "rmgcl-gksa": "RMGCL+GKSA (Zhang & Zhao)",
    "basnet-rmgcl-gksa": "BaS-Net + RMGCL+GKSA",
    "stpn-rmgcl-gksa": "STPN + RMGCL+GKSA",
    "facnet-rmgcl-gksa": "FAC-Net + RMGCL+GKSA",
}


def _to_2(record: dict[str, Any]) -> dict[str, Any]:
    """Add as null or empty what package 0.1.0 did not write yet."""
    training = {"weights_of": None, "diagnostics": {}} | record["training"]
    environment = {"commit": None, "method": None} | record["environment"]
    return {"ablation": None} | record | {"schema": 2, "training": training, "environment": environment}


def _to_3(record: dict[str, Any]) -> dict[str, Any]:
    """Add the second localization, which no run before schema 3 had."""
    return record | {"schema": 3, "common": None}


def _to_4(record: dict[str, Any]) -> dict[str, Any]:
    """Keep AP by class under the headline protocol alone, as an array."""
    headline, classes, metrics = record["headline"], record["classes"], record["metrics"]
    if headline not in metrics:
        raise ValueError(f"its headline {headline!r} is none of its protocols: {', '.join(metrics)}")
    mean_ap, by_class = metrics[headline]["mAP"], metrics[headline]["per_class"]
    if unknown := by_class.keys() - set(classes):
        raise ValueError(f"{headline} has the class {min(unknown)!r}, which `classes` lacks")
    if ragged := [name for name, ap in by_class.items() if ap.keys() != mean_ap.keys()]:
        raise ValueError(f"the class {ragged[0]!r} has other tIoUs than mAP")
    common = record["common"]
    kept = {name: value for name, value in record.items() if name != "common"}
    return kept | {
        "schema": 4,
        "metrics": {name: _without_classes(one) for name, one in metrics.items()},
        "per_class": [[by_class[name][tiou] for tiou in mean_ap] if name in by_class else None for name in classes],
        "common_localizer": None if common is None else _without_classes(common[headline]),
    }


def _without_classes(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != "per_class"}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_2, 2: _to_3, 3: _to_4}


def migrate(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of any schema from 1 in today's and by its method's name of today; the argument is not changed.

    Raises:
        LookupError: the record lacks a field of its schema.
        TypeError: a field is of another type.
        AttributeError: as TypeError.
        ValueError: its parts contradict each other.
        UserError: the new name of its method cannot be part of a file's.
    """
    while record["schema"] < SCHEMA:
        record = MIGRATIONS[record["schema"]](record)
    return _renamed(record) if record["method"] in RENAMED else record


def _renamed(record: dict[str, Any]) -> dict[str, Any]:
    """Give a record its method's new name and title, and the digest and id that follow from the name."""
    method, headline = RENAMED[record["method"]], record["headline"]
    decisive = {name: record[name] for name in ("seed", "recipe", "data", "headline")}
    decisive["package"] = record["environment"]["wstal-bench"]
    possible = possible_tious(list(record["metrics"][headline]["mAP"]))
    digests = [identity_digest(**decisive, method=record["method"], tious=tious) for tious in possible]
    # the thresholds that the record was made with are those that give its digest
    tious = possible[digests.index(record["digest"]) if record["digest"] in digests else 0]
    renamed = identity_digest(**decisive, method=method, tious=tious)
    return record | {
        "method": method,
        "title": TITLES.get(method, record["title"]),
        "digest": renamed,
        "id": run_id(record["data"]["name"], method, record["seed"], renamed),
    }
