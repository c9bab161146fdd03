"""One run: a method, a data set and a seed, from features to a record."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.charts.training import draw
from harness.data.source import DataSource
from harness.io.atomic import atomic_write
from harness.io.console import OnProgress
from harness.io.encoding import pretty_json
from harness.io.tensor_file import TensorFile
from harness.random_streams import seed_torch
from harness.records.files import (
    DETECTIONS,
    FIGURE,
    GROUND_TRUTH,
    HISTORY,
    MANIFEST,
    MATCHES,
    PSEUDO_LABELS,
    RECORD,
    SCORES,
    WEIGHTS,
)
from harness.records.ground_truth import save_ground_truth
from harness.records.matches import save_matches
from harness.records.reading import INDENT, parse_record
from harness.records.run_folder import FinishedRun, chart_run
from harness.records.schema import Record
from harness.records.store import Store
from harness.registry import load_method
from harness.runs.artefacts import add_scores, save_bytes, save_detections
from harness.runs.checkpoint import load_weights, remove_checkpoints, save_weights
from harness.runs.class_sources import class_source
from harness.runs.devices import set_arithmetic
from harness.runs.environment import environment, git_state
from harness.runs.examples import TrainingVideos, training_input, weak
from harness.runs.observing import Observer, gradients_of_added_terms, pseudo_label_quality, save_pseudo_labels
from harness.runs.outcome import headline_metrics, outcome, protocols_of
from harness.runs.reuse import BITS, reuse_pseudo_labels, reuse_training, warmup_cache
from harness.runs.scoring import common_localizer, score_videos
from harness.runs.spec import RunSpec
from harness.runs.training import check_batches, train
from wstal.errors import RunError, UserError
from wstal.evaluation import Protocol, evaluate_all
from wstal.localize import Localizer, localize
from wstal.method import Method, Recipe
from wstal.supervised import SupervisedMethod
from wstal.types import GroundTruth, Video


def execute(
    spec: RunSpec,
    source: DataSource,
    store: Store,
    device: torch.device,
    on_progress: OnProgress = lambda *_: None,
    observe: int | None = None,
) -> tuple[Path, Record, bool]:
    """Do a run, or find it done. Two processes that want one run do it once: the second waits.

    Args:
        spec: the run.
        source: its data.
        store: where it is kept.
        device: where it trains.
        on_progress: called while the run goes on, in the stages `train` and `score`.
        observe: epochs between looks at the test set, pseudo labels and gradients, which the record keeps beside the
            result.

    Returns:
        The run's folder, its record, and whether it was there already.

    Raises:
        UserError: bad data, or a finished run without the looks that are asked for.
        RunError: the loss is not finite, the memory is not enough, or the data changed on the way.
        StoreError: the store cannot be written, or the run was begun on another device or number of threads, with
            other packages or on another processor.
    """
    if (record := store.find(spec.id)) is not None:
        return store.run_folder(spec.id), _found(record, spec, observe), True
    # all that can be wrong with the input is found before the first epoch, and before anything is written
    clock = _Clock()
    cls = load_method(spec.method)
    trained_on = training_input(source, cls)
    test_videos = source.videos("test")
    truth = source.ground_truth("test")
    protocols = protocols_of(source, truth)
    method = build(spec, sum(source.stream_widths), len(source.classes), device)
    check_batches(method, trained_on, spec.recipe.train)
    if spec.recipe.train.precision == "tf32" and device.type != "cuda":
        raise UserError("train.precision=tf32 is a GPU's: use --device cuda, or bfloat16 or float32 on a CPU.")
    _rehearse(method, test_videos, spec.recipe, truth, source, protocols)
    clock.lap("check")
    with store.exclusive(spec.id):
        if (record := store.find(spec.id)) is not None:
            return store.run_folder(spec.id), _found(record, spec, observe), True
        if not store.is_complete(spec.id):
            folder = store.begin(spec.id)
            set_arithmetic(device, spec.recipe.train.precision)
            computed_on = environment(device, spec.method)
            bits = {"run": spec.digest} | {name: computed_on[name] for name in BITS}
            looks = _observer(spec, source, folder, trained_on, test_videos, truth, observe)
            history, weights_of = reuse_training(store, spec, computed_on, method) if looks is None else (None, None)
            if history is None:
                history = train(
                    method, trained_on, spec.recipe.train, spec.seed, folder, bits,
                    on_progress=on_progress,
                    check=lambda: _check_unchanged(spec, source),
                    warmup=warmup_cache(store, spec, method, bits) if looks is None else None,
                    observe=looks or (lambda *_: None),
                )  # fmt: skip
            clock.lap("train")
            common_settings = common_localizer(source.family)
            classify = class_source(spec.recipe.localizer, source)
            own, common = Localizer(spec.recipe.localizer, source.classes), Localizer(common_settings, source.classes)
            alike = spec.recipe.localizer == common_settings
            with TensorFile(folder / SCORES) as file:  # one video after the other: all scores take gigabytes
                for scores in map(classify, score_videos(method, test_videos, spec.recipe.train, on_progress)):
                    add_scores(file, scores)
                    clock.lap("score")
                    own.add(scores)
                    clock.lap("localize")
                    if not alike:
                        common.add(scores)
                        clock.lap("common localizer")
                _check_unchanged(spec, source)
                scores_digest = file.finish()
            clock.lap("score")
            common_metrics = None if alike else headline_metrics(common.detections(), truth, source)
            clock.lap("common localizer")
            detections = own.detections()
            clock.lap("localize")
            results = evaluate_all(detections, truth, protocols, source.tious)
            clock.lap("evaluate")
            labels_digest = reuse_pseudo_labels(store, weights_of, spec, folder) if weights_of else None
            if labels_digest is None:
                labels_digest = save_pseudo_labels(folder / PSEUDO_LABELS, method, test_videos, spec.recipe.train)
            artefacts = {
                WEIGHTS: save_weights(folder / WEIGHTS, method),
                SCORES: scores_digest,
                DETECTIONS: save_detections(folder / DETECTIONS, detections),
                GROUND_TRUTH: save_ground_truth(folder / GROUND_TRUTH, truth, source.durations(truth.videos)),
            }
            if results:
                artefacts[MATCHES] = save_matches(folder / MATCHES, results[source.headline], truth.videos)
            artefacts[HISTORY] = save_bytes(folder / HISTORY, pretty_json(history.to_json()))
            artefacts |= {PSEUDO_LABELS: labels_digest} if labels_digest else {}
            times = {"started": clock.started, "seconds": clock.rounded()}
            atomic_write(folder / MANIFEST, pretty_json(times | {"code": git_state(), "notes": list(source.notes)}))
            training = {
                "parameters": method.parameter_count(),
                "weights_of": weights_of,
                "final_loss": history.last_epoch_means(),
                "diagnostics": {name: values[-1] for name, values in history.epochs.items()},
            }
            made = outcome(spec, source, cls, results, detections) | {
                "common_localizer": common_metrics, "training": training, "environment": computed_on,
                "artefacts": artefacts,
            }  # fmt: skip
            made |= {"observations": looks.looks()} if looks else {}
            record = parse_record(pretty_json(made), folder / RECORD)  # what could not be read is not stored
            atomic_write(folder / FIGURE, draw(history.to_json(), chart_run(record)))
            atomic_write(folder / RECORD, record.to_bytes(INDENT))
        remove_checkpoints(store.partial_folder(spec.id))
        folder = store.finish(spec.id)
    return folder, FinishedRun.open(folder).record.planned_as(spec.recipe_changes), False


def _found(record: Record, spec: RunSpec, observe: int | None) -> Record:
    """Return a finished run's record as this plan states it."""
    if observe is not None:
        seen, epochs = [look.epoch for look in record.observations], spec.recipe.train.epochs
        if not {*range(observe, epochs, observe), epochs} <= set(seen):
            looks = f"with looks after epochs {', '.join(map(str, seen))} alone" if seen else "without looks"
            raise UserError(f"{spec.id} is in the store {looks}, not every {observe}. Train it in another --store.")
    return record.planned_as(spec.recipe_changes)


def _observer(
    spec: RunSpec,
    source: DataSource,
    folder: Path,
    trained_on: TrainingVideos,
    test_videos: Sequence[Video],
    truth: GroundTruth,
    every: int | None,
) -> Observer | None:
    """Return what looks at the method between epochs. Only here does the ground truth of training videos come in."""
    if every is None:
        return None
    train_spec, classify = spec.recipe.train, class_source(spec.recipe.localizer, source)
    try:
        training_truth = source.ground_truth("train")
    except UserError:  # labels without times
        training_truth = None

    def look(method: Method) -> dict[str, Any]:
        localizer = Localizer(spec.recipe.localizer, source.classes)
        for scores in map(classify, score_videos(method, test_videos, train_spec)):
            localizer.add(scores)
        seen: dict[str, Any] = {"test": headline_metrics(localizer.detections(), truth, source)}
        if training_truth is not None and not isinstance(method, SupervisedMethod):  # which has none
            seen["pseudo_labels"] = pseudo_label_quality(method, weak(trained_on), training_truth, train_spec)
        if gradients := gradients_of_added_terms(method, trained_on, train_spec, spec.seed):
            seen["gradients"] = gradients
        return seen

    return Observer(every, train_spec.epochs, folder, look)


def _check_unchanged(spec: RunSpec, source: DataSource) -> None:
    """Check that the data are still those that the run claims; of files, those are read again whose status changed.

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
    lengths = []
    for number, video in enumerate(videos, 1):
        lengths.append(len(video.features))
        source.on_progress("check", number, len(videos), "test videos")
    shortest = videos[lengths.index(min(lengths))]
    scores = [*map(class_source(recipe.localizer, source), score_videos(method, [shortest], recipe.train))]
    localize(scores, common_localizer(source.family), source.classes)
    detections = localize(scores, recipe.localizer, source.classes)
    none = detections.select(np.zeros(len(detections), dtype=bool))
    evaluate_all(none, truth, protocols, source.tious)


def build(spec: RunSpec, feature_dim: int, num_classes: int, device: torch.device) -> Method:
    """Return the method with the initial weights that the run's seed gives.

    Args:
        spec: the run.
        feature_dim: columns of the features.
        num_classes: classes of the data set.
        device: where the method is put.
    """
    seed_torch(spec.seed, "initialisation")
    return load_method(spec.method)(spec.recipe.method, feature_dim, num_classes).to(device)


def restore(folder: Path, feature_dim: int, device: torch.device) -> tuple[Method, Recipe, Record]:
    """Return the trained method of a finished run, with its recipe and record.

    Args:
        folder: of the run.
        feature_dim: columns of the features that it is to score.
        device: where it scores.

    Raises:
        UserError: the folder holds no finished run.
        StoreError: its weights are damaged or of another width.
    """
    record = FinishedRun.open(folder).record
    cls = load_method(record.method)
    options = cls.Options.model_validate(record.recipe.method)
    recipe = Recipe.model_validate(record.recipe.to_json() | {"method": options})
    trained = record.data.width
    if trained != feature_dim:
        raise UserError(
            f"The run {folder.name} was trained on features of width {trained}, these have {feature_dim}. "
            "Give features of the same extractor and streams."
        )
    method = cls(recipe.method, feature_dim, len(record.classes)).to(device)
    load_weights(folder / WEIGHTS, method, record.artefacts[WEIGHTS])
    return method, recipe, record


class _Clock:
    """Start of this process's work and seconds by stage; earlier processes of an interrupted run are not in it."""

    def __init__(self) -> None:
        self.started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time()))
        self._seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to a stage."""
        now = time.monotonic()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._last = now

    def rounded(self) -> dict[str, float]:
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}
