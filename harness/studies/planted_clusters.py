"""Planted clusters: synthetic features of known classes, and the score of an embedding of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.random_streams import numpy_stream


@dataclass(frozen=True)
class Problem:
    """Planted clusters and how an embedding of them is trained; numbers of features are per class.

    A feature is its class's centre, a random unit vector of the signal columns, plus Gaussian noise of norm about
    `spread`, beside distractor columns of pure noise of norm about `distractor_spread`; the whole has norm 1.
    """

    classes: int = 10
    signal_columns: int = 16
    distractor_columns: int = 48
    spread: float = 0.75
    distractor_spread: float = 3.0
    anchors: int = 20
    slots: int = 24
    held_out: int = 200
    embedding: int = 16
    steps: int = 100


class Samples(NamedTuple):
    """Features `[samples, columns]` of norm 1 and their classes `[samples]`."""

    features: Tensor
    classes: Tensor


class Clusters(NamedTuple):
    """Disjoint draws from the same clusters."""

    anchors: Samples
    slots: Samples
    validation: Samples
    test: Samples


def draw_clusters(problem: Problem, seed: int) -> Clusters:
    """Draw the centres and four sets of features around them.

    Args:
        problem: numbers of classes, columns and features.
        seed: of all draws.
    """
    stream = numpy_stream(seed, "clusters")
    centres = stream.normal(size=(problem.classes, problem.signal_columns))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(count: int) -> Samples:
        classes = np.repeat(np.arange(problem.classes), count)
        noise = stream.normal(size=(len(classes), problem.signal_columns)) / math.sqrt(problem.signal_columns)
        distractors = stream.normal(size=(len(classes), problem.distractor_columns))
        distractors *= problem.distractor_spread / math.sqrt(problem.distractor_columns)
        features = np.concatenate([centres[classes] + problem.spread * noise, distractors], axis=1)
        return Samples(normalize(torch.from_numpy(features).float(), dim=1), torch.from_numpy(classes))

    return Clusters(draw(problem.anchors), draw(problem.slots), draw(problem.held_out), draw(problem.held_out))


def initial_weights(problem: Problem, seed: int) -> Tensor:
    """Draw the embedding before training, `[columns, embedding]`.

    Args:
        problem: numbers of columns.
        seed: of the draw.
    """
    columns = problem.signal_columns + problem.distractor_columns
    weights = numpy_stream(seed, "initialisation").normal(size=(columns, problem.embedding))
    return torch.from_numpy(weights / math.sqrt(columns)).float()


def nearest_centre_accuracy(weights: Tensor, known: Samples, held_out: Samples) -> float:
    """Return the percent of held-out features that are nearest, by cosine, to the mean embedding of their class.

    Args:
        weights: `[columns, embedding]`.
        known: features with true classes, which make the centres.
        held_out: features to classify.
    """
    embedded = normalize(known.features @ weights, dim=1)
    classes = range(int(known.classes.max()) + 1)
    centres = normalize(torch.stack([embedded[known.classes == one].mean(dim=0) for one in classes]), dim=1)
    # the length of an embedding scales its cosines alike, so it need not be divided out
    nearest = (held_out.features @ weights @ centres.T).argmax(dim=1)
    return 100 * float((nearest == held_out.classes).double().mean())
