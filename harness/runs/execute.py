"""One run: a method, a data set and a seed, from features to a record."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from harness.charts.training import FIGURE, HISTORY, draw
from harness.data.detections import write_detections
from harness.data.features import in_memory
from harness.data.source import DataSource
from harness.io.reading import atomic_write, canonical_json, pretty_json, read_json, sha256, sha256_file
from harness.random_streams import seed_torch
from harness.records.matches import DETECTIONS, FLAGS, save_flags
from harness.records.schema import PROSE, RECORD, SCHEMA, Record, read_record
from harness.records.store import Store
from harness.registry import load_method
from harness.runs.checkpoint import History, load_weights, remove_checkpoints, save_weights
from harness.runs.environment import environment, git_state
from harness.runs.failed_step import memory_advice
from harness.runs.scoring import common_localizer, score_videos
from harness.runs.spec import IDENTITY, RunSpec, training_digest
from harness.runs.training import Trunk, check_batches, train
from wstal.errors import RunError, UserError
from wstal.evaluation import Protocol, evaluate, evaluate_all, get_protocol, protocols_for, to_json
from wstal.localize import localize
from wstal.method import Method, Recipe, TrainSpec
from wstal.types import Detections, GroundTruth, SnippetScores, Video

BITS = ("wstal-bench", "method", "python", "packages", "device", "cpu", "threads")  # of the environment
WEIGHTS, SCORES, MANIFEST = "weights.safetensors", "scores.safetensors", "manifest.json"
Report = Callable[[str, int, int, float | None], None]


def execute(
    spec: RunSpec,
    source: DataSource,
    store: Store,
    device: torch.device,
    report: Report = lambda stage, done, total, loss: None,
) -> tuple[Path, dict[str, Any], bool]:
    """Do a run, or find it done. Two processes that want one run do it once: the second waits.

    Args:
        spec: the run.
        source: its data.
        store: where it is kept.
        device: where it trains.
        report: called with (stage, steps done, steps, loss or None) as the run goes on.

    Returns:
        The run's folder, its record, and whether it was there already.

    Raises:
        UserError: bad data.
        RunError: the loss is not finite, the memory is not enough, or the data changed on the way.
        StoreError: the store cannot be written, or the run was begun on another device or number of threads, with
            other packages or on another processor.
    """
    if (record := store.find(spec.id)) is not None:
        return store.run_folder(spec.id), record | spec.departures, True
    # all that can be wrong with the input is found before the first epoch, and before anything is written
    clock = _Clock()
    training_videos, test_videos = in_memory(source.videos("train")), source.videos("test")
    truth = source.ground_truth("test")
    protocols = (get_protocol("anet"),) if source.headline == "anet" else protocols_for(truth)
    method = build(spec, _width(training_videos), len(source.classes), device)
    check_batches(method, training_videos, spec.recipe.train)
    if spec.recipe.train.precision == "tf32" and device.type != "cuda":
        raise UserError("train.precision=tf32 is a GPU's: use --device cuda, or bfloat16 or float32 on a CPU.")
    _rehearse(method, test_videos, spec.recipe, truth, source, protocols)
    clock.lap("check")
    with store.exclusive(spec.id):
        if (record := store.find(spec.id)) is not None:
            return store.run_folder(spec.id), record | spec.departures, True
        if not store.is_complete(spec.id):
            folder = store.begin(spec.id)
            _set_arithmetic(device, spec.recipe.train.precision)
            computed_on = environment(device, spec.method)
            bits = {"run": spec.digest} | {name: computed_on[name] for name in BITS}
            history, weights_of = _share_training(store, spec, computed_on, method)
            if history is None:
                history = train(
                    method, training_videos, spec.recipe.train, spec.seed, folder, bits,
                    progress=lambda done, total, loss: report("train", done, total, loss),
                    check=lambda: _check_unchanged(spec, source),
                    trunk=_trunk(store, spec, method, bits),
                )  # fmt: skip
            clock.lap("train")
            scores = _score(
                method, test_videos, spec.recipe.train, lambda done, total: report("score", done, total, None)
            )
            _check_unchanged(spec, source)
            clock.lap("score")
            detections = localize(scores, spec.recipe.localizer, source.classes)
            clock.lap("localize")
            results = evaluate_all(detections, truth, protocols, source.tious)
            metrics = {name: to_json(result) for name, result in results.items()}
            clock.lap("evaluate")
            common = _common(spec, source, scores, truth)
            clock.lap("common localizer")
            artefacts = {
                WEIGHTS: save_weights(folder / WEIGHTS, method),
                SCORES: _save_scores(folder / SCORES, scores),
                DETECTIONS: _save_detections(folder / DETECTIONS, detections),
                FLAGS: save_flags(folder / FLAGS, results[source.headline], truth.videos),
                HISTORY: _save_json(folder / HISTORY, history.to_json()),
            }
            _save_json(folder / MANIFEST, {**clock.manifest(), "code": git_state(), "notes": list(source.notes)})
            record = _record(spec, source, method, metrics, common, history, weights_of, computed_on, artefacts)
            Record.model_validate_json(canonical_json(record))  # what could not be read back is not stored
            atomic_write(folder / FIGURE, draw(history.to_json(), record))
            _save_json(folder / RECORD, record)
        remove_checkpoints(store.partial_folder(spec.id))
        folder = store.finish(spec.id)
    return folder, read_record(folder / RECORD) | spec.departures, False


def _set_arithmetic(device: torch.device, precision: str) -> None:
    """What all of torch computes with in this process."""
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # else every new tensor is filled with NaN first, to expose reads of it: a twentieth of a small step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # cuDNN's convolutions would round to TF32 unless told not to
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def _check_unchanged(spec: RunSpec, source: DataSource) -> None:
    """Whether the data are still those that the run claims; of files, those are read again whose status changed.

    Called after the last read of what is about to be stored, so that nothing is stored that saw other data.
    """
    if source.synthetic:  # generated once, kept in memory
        return
    try:
        now = source.describe()
    except OSError as error:
        raise RunError(f"{error.filename} went away while {spec.id} was computed: {error.strerror}.") from error
    if now != spec.data:
        digests = spec.data["digests"], now["digests"]
        parts = [name for name in digests[0] if digests[0][name] != digests[1].get(name)]
        raise RunError(
            f"The data changed while {spec.id} was computed ({', '.join(parts) or 'its description'}): what came after "
            "the last checkpoint is dropped. Restore the files to go on; with changed ones it is another run, "
            "which the same command begins."
        )


def _score(
    method: Method,
    videos: list[Video],
    train: TrainSpec,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SnippetScores]:
    done = 0

    def advance(scored: int, total: int) -> None:
        nonlocal done
        done = scored
        progress(scored, total)

    def sizes() -> dict[str, int]:
        return {"train.test_length": min(train.test_length, len(videos[done].features))}

    with memory_advice(f"scoring of {method.name}", sizes):
        return score_videos(method, videos, train, advance)


def _common(
    spec: RunSpec, source: DataSource, scores: list[SnippetScores], truth: GroundTruth
) -> dict[str, Any] | None:
    """The headline metrics of the common localizer's detections; None where it is the run's own."""
    settings = common_localizer(source.family)
    if spec.recipe.localizer == settings:
        return None
    protocol = get_protocol(source.headline)
    found = localize(scores, settings, source.classes)
    return {protocol.name: to_json(evaluate(found, truth, protocol, source.tious))}


def _share_training(
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


def _trunk(store: Store, spec: RunSpec, method: Method, bits: dict[str, Any]) -> Trunk | None:
    """Where the store keeps the epochs that rows of an ablation have in common; None for a method without such."""
    part, epochs = method.trunk(spec.recipe.train.epochs)
    if not epochs:
        return None
    schedule = spec.recipe.train.model_dump(mode="json", exclude={"test_length"})
    identity = bits | {
        "run": IDENTITY,
        "part": f"{type(part).__module__}.{type(part).__qualname__}",
        "options": part.spec.model_dump(mode="json"),
        "seed": spec.seed,
        "train": schedule | {"epochs": epochs},
        "data": {name: value for name, value in spec.data.items() if name not in PROSE},
    }
    return Trunk(store.trunk_folder(sha256(canonical_json(identity))), identity)


def _record(
    spec: RunSpec,
    source: DataSource,
    method: Method,
    metrics: dict[str, Any],
    common: dict[str, Any] | None,
    history: History,
    weights_of: str | None,
    computed_on: dict[str, Any],
    artefacts: dict[str, str],
) -> dict[str, Any]:
    """What a run leaves for comparison: the same bytes whenever it is repeated in one environment."""
    return {
        "schema": SCHEMA,
        "id": spec.id,
        "digest": spec.digest,
        "status": "done",
        "synthetic": source.synthetic,
        "method": spec.method,
        "title": type(method).title,
        "seed": spec.seed,
        "data": spec.data,
        "classes": list(source.classes),
        "recipe": spec.recipe.model_dump(mode="json"),
        **spec.departures,
        "headline": source.headline,
        "metrics": metrics,
        "common": common,
        "training": {
            "parameters": method.parameter_count(),
            "weights_of": weights_of,
            "final_loss": history.last_epoch_means(),
            "diagnostics": {name: values[-1] for name, values in history.epochs.items()},
        },
        "environment": computed_on,
        "artefacts": artefacts,
    }


def _width(videos: list[Video]) -> int:
    if not videos:
        raise UserError("There are no training videos. Check the train subset of the data set.")
    return int(videos[0].features.shape[1])


def _rehearse(
    method: Method,
    videos: list[Video],
    recipe: Recipe,
    truth: GroundTruth,
    source: DataSource,
    protocols: tuple[Protocol, ...],
) -> None:
    """Read every test video, and score, localize and evaluate the shortest with untrained weights."""
    if not videos:
        raise UserError("There are no test videos. Check the test subset of the data set.")
    shortest = min(videos, key=lambda video: len(video.features))
    scores = _score(method, [shortest], recipe.train)
    localize(scores, common_localizer(source.family), source.classes)
    detections = localize(scores, recipe.localizer, source.classes)
    none = detections.select(np.zeros(len(detections), dtype=bool))
    for protocol in protocols:
        evaluate(none, truth, protocol, source.tious)


def build(spec: RunSpec, feature_dim: int, num_classes: int, device: torch.device) -> Method:
    """The method with the initial weights that the run's seed gives, on the device."""
    seed_torch(spec.seed, "initialisation")
    return load_method(spec.method)(spec.recipe.method, feature_dim, num_classes).to(device)


def restore(folder: Path, feature_dim: int, device: torch.device) -> tuple[Method, Recipe, dict[str, Any]]:
    """The trained method of a finished run, with its recipe and record.

    Raises:
        UserError: the folder holds no finished run.
        StoreError: its weights are damaged or of another width.
    """
    if not (folder / RECORD).exists():
        raise UserError(f"{folder} holds no finished run ({RECORD} is not there). `wstal-bench ls runs` lists them.")
    record = read_record(folder / RECORD)
    cls = load_method(record["method"])
    recipe = Recipe.model_validate(
        record["recipe"] | {"method": cls.Options.model_validate(record["recipe"]["method"])}
    )
    trained = record["data"]["width"]
    if trained != feature_dim:
        raise UserError(
            f"The run {folder.name} was trained on features of width {trained}, these have {feature_dim}. "
            "Give features of the same extractor and streams."
        )
    method = cls(recipe.method, feature_dim, len(record["classes"])).to(device)
    load_weights(folder / WEIGHTS, method, record["artefacts"][WEIGHTS])
    return method, recipe, record


def pick_device(name: str) -> torch.device:
    """The device called `auto`, `cpu` or `cuda[:n]`.

    Raises:
        UserError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"Unknown device {name!r}. Use auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"Device {name!r} is not to be had here. Use --device cpu.")
    return device


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._started = time.time()
        self._last = time.monotonic()

    def manifest(self) -> dict[str, Any]:
        """When this process began, and seconds by stage; earlier processes of an interrupted run are not in it."""
        return {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)), "seconds": self.laps}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _save_scores(path: Path, scores: list[SnippetScores]) -> str:
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for one in scores:
        for name, signal in one.signals.items():
            arrays[f"{one.video}/{name}"] = np.ascontiguousarray(signal, dtype=np.float32)
        for name, values in one.class_scores.items():
            arrays[f"{one.video}/class_scores/{name}"] = np.ascontiguousarray(values, dtype=np.float32)
        arrays[f"{one.video}/video_scores"] = np.ascontiguousarray(one.video_scores, dtype=np.float32)
        arrays[f"{one.video}/clock"] = np.array([one.seconds_per_snippet, one.offset])
    data = safetensors.numpy.save(arrays)
    atomic_write(path, data)
    return sha256(data)


def _save_detections(path: Path, detections: Detections) -> str:
    write_detections(path, detections)
    return sha256_file(path)


def _save_json(path: Path, value: Any) -> str:
    data = pretty_json(value)
    atomic_write(path, data)
    return sha256(data)
