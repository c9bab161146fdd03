"""Looks at a method between epochs of its training, which neither sees the looks nor changes by them."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.io.atomic import atomic_write
from harness.io.encoding import canonical_json
from harness.io.tensor_file import TensorFile
from harness.random_streams import numpy_stream
from harness.runs.examples import TrainingVideos, examples_of
from harness.runs.failed_step import losses
from wstal.cross_video import CrossVideo
from wstal.errors import UserError
from wstal.evaluation.ranking import calibration_error, ranking_quality
from wstal.method import Method, TrainSpec
from wstal.types import Bools, Floats, GroundTruth, Video

OBSERVED = "observations.json"
GRADIENT_BATCHES = 4


@dataclass(frozen=True)
class Observer:
    """Look at a method after every few epochs and after the last, kept on disk for a run that is interrupted.

    Args:
        every: epochs from one look to the next.
        epochs: of the whole training.
        folder: of the run; looks of an interrupted training are in it.
        look: returns what is seen, as JSON values.
    """

    every: int
    epochs: int
    folder: Path
    look: Callable[[Method], dict[str, Any]]

    def __call__(self, method: Method, epoch: int) -> None:
        """Look, if it is time.

        Args:
            method: in training; its mode may change, its weights do not.
            epoch: epochs done.
        """
        found = self.looks()
        if (epoch % self.every and epoch != self.epochs) or any(one["epoch"] == epoch for one in found):
            return
        method.eval()
        found.append({"epoch": epoch} | self.look(method))
        atomic_write(self.folder / OBSERVED, canonical_json(found))

    def looks(self) -> list[dict[str, Any]]:
        """Return the looks so far."""
        path = self.folder / OBSERVED
        return list(json.loads(path.read_bytes())) if path.exists() else []


def features_of(method: Method, videos: Sequence[Video], spec: TrainSpec) -> Iterator[tuple[Video, np.ndarray, Tensor]]:
    """Yield each video with its scored rows and their features, on the method's device.

    Args:
        method: chooses the rows.
        videos: some videos.
        spec: gives the test length.
    """
    for video in videos:
        stored = video.features
        rows = method.test_indices(len(stored), spec.test_length)
        yield video, rows, torch.from_numpy(np.asarray(stored[rows], dtype=np.float32)).to(method.device)


def pseudo_label_quality(
    method: Method, videos: Sequence[Video], truth: GroundTruth, spec: TrainSpec
) -> dict[str, dict[str, float]]:
    """Compare a method's pseudo labels with the ground truth of training videos, which it never sees.

    A class is judged on the snippets of the videos that are labelled with it: there its pseudo labels count. A snippet
    is positive if its middle is inside an instance. Values are means over classes that have both kinds of snippets, in
    percent.

    Args:
        method: in evaluation mode.
        videos: training videos.
        truth: their instances.
        spec: gives the test length.

    Returns:
        By name of the labels `ap` and `auc` of their ranking, their mean `score`, the share of `positive` snippets, and
        `error`, the expected calibration error; empty for a method without pseudo labels.
    """
    place = {name: index for index, name in enumerate(truth.videos)}
    scores: dict[str, dict[int, list[np.ndarray]]] = {}
    positives: dict[int, list[Bools]] = {}
    inputs = features_of(method, videos, spec)
    kept: list[tuple[Video, np.ndarray]] = []

    def features() -> Iterator[Tensor]:
        for video, rows, values in inputs:
            kept.append((video, rows))
            yield values

    for found in method.pseudo_labels(features()):
        video, rows = kept.pop()
        middle = video.offset + (rows + 0.5) * video.seconds_per_snippet
        inside = truth.video == place.get(video.name, -1)
        for label in video.labels:
            chosen = inside & (truth.label == label)
            within = (middle[:, None] >= truth.start[chosen]) & (middle[:, None] < truth.end[chosen])
            positives.setdefault(label, []).append(within.any(axis=1))
            for name, values in found.items():
                column = values[:, label].double().cpu().numpy()
                scores.setdefault(name, {}).setdefault(label, []).append(column)
    quality: dict[str, dict[str, float]] = {}
    for name, by_label in scores.items():
        measured = [
            _quality(np.concatenate(columns), np.concatenate(positives[label]))
            for label, columns in by_label.items()
            if sum(map(len, columns)) == sum(map(len, positives[label]))
        ]
        known = [values for values in measured if not np.isnan(values["ap"])]
        if known:
            quality[name] = {key: 100 * float(np.mean([values[key] for values in known])) for key in known[0]}
    return quality


def _quality(score: Floats, positive: Bools) -> dict[str, float]:
    ap, auc = ranking_quality(score, positive)
    if score.min() < 0 or score.max() > 1:  # a plug-in's logits
        raise UserError(
            f"Pseudo labels are probabilities, but some are outside [0, 1] ({score.min():g} to {score.max():g}): let "
            "`pseudo_labels` yield probabilities, or run without --observe."
        )
    error = calibration_error(score, positive)
    return {"ap": ap, "auc": auc, "score": score.mean(), "positive": positive.mean(), "error": error}


def gradients_of_added_terms(
    method: Method, videos: TrainingVideos, spec: TrainSpec, seed: int
) -> dict[str, dict[str, float]]:
    """Compare the gradient of each term that a method adds to a base method's loss with the gradient of that loss.

    Gradients are those of training, with dropout, of the parameters that the base's loss trains. Nothing is changed.

    Args:
        method: between two epochs of its training, in any mode.
        videos: training videos, of which a few batches are taken, in every look the same.
        spec: gives the batches.
        seed: of the run.

    Returns:
        By name of the term the mean over batches of the `cosine` of the two gradients, and of the term's `norm` in
        units of the base's. Empty where a method adds nothing, a term is left out while it is constant.
    """
    if not isinstance(method, CrossVideo):
        return {}
    examples, rng = examples_of(method, videos, spec, 0), numpy_stream(seed, "gradients")
    chosen = method.train_batches(examples.labels, spec.batch_size, rng)[:GRADIENT_BATCHES]
    twin = copy.deepcopy(method).train()
    trained = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    found: dict[str, list[tuple[float, float]]] = {}
    for indices in chosen:
        terms = losses(twin, examples.batch(indices, rng)[0], spec.precision)
        added = twin.added_terms(terms)
        base = torch.autograd.grad(terms["total"] - sum(added.values()), trained, retain_graph=True, allow_unused=True)
        # the total's graph has the added terms too, whose own parameters get a gradient of exactly 0
        found_base = zip(trained, base, strict=True)
        reached = [(parameter, value) for parameter, value in found_base if value is not None and bool(value.any())]
        own = torch.cat([value.flatten() for _, value in reached])
        for name, term in added.items():
            if not term.requires_grad:
                continue
            theirs = torch.autograd.grad(term, [one for one, _ in reached], retain_graph=True, materialize_grads=True)
            other = torch.cat([value.flatten() for value in theirs])
            cosine = torch.nn.functional.cosine_similarity(own, other, dim=0)
            found.setdefault(name, []).append((cosine.item(), (other.norm() / own.norm()).item()))
    means = {name: np.mean(values, axis=0).tolist() for name, values in found.items()}
    return {name: dict(zip(("cosine", "norm"), values, strict=True)) for name, values in means.items()}


def save_pseudo_labels(path: Path, method: Method, videos: Sequence[Video], spec: TrainSpec) -> str | None:
    """Write the pseudo labels that a trained method gives test videos, for pictures of them.

    Args:
        path: the file, `VIDEO/NAME` with the same rows as the scores.
        method: trained.
        videos: test videos.
        spec: gives the test length.

    Returns:
        The file's SHA-256, or None for a method without pseudo labels, which gets no file.
    """
    method.eval()
    features = (values for _, _, values in features_of(method, videos, spec))
    given = zip(videos, method.pseudo_labels(features), strict=False)
    if (first := next(given, None)) is None:
        return None
    with TensorFile(path) as file:
        for video, found in itertools.chain([first], given):
            for name, values in found.items():
                file.add(f"{video.name}/{name}", values.float().cpu().numpy())
        return file.finish()
