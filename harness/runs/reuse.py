"""Reuse another run's training where all that decides its bits is equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.io.encoding import canonical_json, sha256
from harness.io.reading import read_json
from harness.records.files import HISTORY, PSEUDO_LABELS, WEIGHTS
from harness.records.run_folder import FinishedRun
from harness.records.schema import IDENTITY, data_identity
from harness.records.store import Store
from harness.runs.artefacts import save_bytes
from harness.runs.checkpoint import History, load_weights
from harness.runs.spec import RunSpec, training_digest
from harness.runs.training import WarmupCache
from wstal.errors import StoreError, UserError
from wstal.method import Method

BITS = ("wstal-bench", "method", "python", "packages", "device", "cpu", "threads")  # of the environment


def reuse_training(
    store: Store, spec: RunSpec, computed_on: dict[str, Any], method: Method
) -> tuple[History | None, str | None]:
    """Load the weights of a finished run whose training was this one's, bit for bit, so that only scoring is left.

    Args:
        store: the store.
        spec: the run.
        computed_on: the environment of this process.
        method: takes the weights.

    Returns:
        That run's history and id, or (None, None): no such run, or its files are damaged.
    """
    for folder in store.finished():
        try:
            run = FinishedRun.open(folder)
            record, environment = run.record, run.record.environment.to_json()
            same_bits = all(environment.get(name) == computed_on[name] for name in BITS)
            if not same_bits or (record.method, record.seed) != (spec.method, spec.seed):
                continue
            parts = (record.recipe.to_json(), record.data.to_json(), record.version)
            if training_digest(spec.method, spec.seed, *parts) != spec.trained_by:
                continue
            history = History(**read_json(run.artefact(HISTORY)))
            load_weights(folder / WEIGHTS, method, record.artefacts[WEIGHTS])
        except (UserError, StoreError, LookupError):
            continue  # damage of another run is no reason to stop this one
        method.end_training()
        return history, record.id
    return None, None


def reuse_pseudo_labels(store: Store, donor: str, spec: RunSpec, folder: Path) -> str | None:
    """Copy the pseudo labels of the run whose weights were reused, which may come from state that weights leave out.

    Args:
        store: the store.
        donor: id of that run.
        spec: the run.
        folder: of the run.

    Returns:
        The file's SHA-256, or None where that run has none, not as it was written, or of other rows of the videos.
    """
    try:
        run = FinishedRun.open(store.run_folder(donor))
        if run.record.recipe.train["test_length"] != spec.recipe.train.test_length:
            return None
        return save_bytes(folder / PSEUDO_LABELS, run.artefact(PSEUDO_LABELS).read_bytes())
    except (UserError, StoreError):
        return None


def warmup_cache(store: Store, spec: RunSpec, method: Method, bits: dict[str, Any]) -> WarmupCache | None:
    """Return the store's cache of the epochs that rows of an ablation share, or None for a method without such.

    Args:
        store: the store.
        spec: the run.
        method: its method, untrained.
        bits: part of the environment that decides the bits of a training.
    """
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
        "data": data_identity(spec.data),
    }
    return WarmupCache(store.warmup_folder(sha256(canonical_json(identity))), identity)
