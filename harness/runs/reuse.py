"""Reuse another run's training where all that decides its bits is equal."""

from __future__ import annotations

from typing import Any

from harness.charts.training import HISTORY
from harness.io.encoding import canonical_json, sha256, sha256_file
from harness.io.reading import read_json
from harness.records.reading import read_record
from harness.records.schema import DESCRIPTIVE_FIELDS, RECORD
from harness.records.store import Store
from harness.runs.artefacts import WEIGHTS
from harness.runs.checkpoint import History, load_weights
from harness.runs.spec import IDENTITY, RunSpec, training_digest
from harness.runs.training import WarmupCache
from wstal.errors import UserError
from wstal.method import Method

BITS = ("wstal-bench", "method", "python", "packages", "device", "cpu", "threads")  # of the environment


def reuse_training(
    store: Store, spec: RunSpec, computed_on: dict[str, Any], method: Method
) -> tuple[History | None, str | None]:
    """Load the weights of a finished run whose training was this one's, bit for bit, so that only scoring is left.

    Returns:
        That run's history and id, or (None, None): no such run, or its files are damaged.
    """
    for folder in store.finished():
        try:
            record = read_record(folder / RECORD)
            same_bits = all(record["environment"].get(name) == computed_on[name] for name in BITS)
            if not same_bits or (record["method"], record["seed"]) != (spec.method, spec.seed):
                continue
            parts = (record["recipe"], record["data"], record["environment"]["wstal-bench"])
            if training_digest(spec.method, spec.seed, *parts) != spec.trained_by:
                continue
            if sha256_file(folder / HISTORY) != record["artefacts"].get(HISTORY):
                continue
            history = History(**read_json(folder / HISTORY))
            load_weights(folder / WEIGHTS, method, record["artefacts"][WEIGHTS])
        except (UserError, OSError):
            continue  # another run's damage is not this one's business
        method.end_training()
        return history, str(record["id"])
    return None, None


def warmup_cache(store: Store, spec: RunSpec, method: Method, bits: dict[str, Any]) -> WarmupCache | None:
    """Where the store keeps the epochs that rows of an ablation have in common; None for a method without such."""
    part, epochs = method.shared_warmup(spec.recipe.train.epochs)
    if not epochs:
        return None
    schedule = spec.recipe.train.model_dump(mode="json", exclude={"test_length"})
    identity = bits | {
        "run": IDENTITY,
        "part": f"{type(part).__module__}.{type(part).__qualname__}",
        "options": part.spec.model_dump(mode="json"),
        "seed": spec.seed,
        "train": schedule | {"epochs": epochs},
        "data": {name: value for name, value in spec.data.items() if name not in DESCRIPTIVE_FIELDS},
    }
    return WarmupCache(store.warmup_folder(sha256(canonical_json(identity))), identity)
