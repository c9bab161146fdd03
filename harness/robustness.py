"""How contrastive losses bear wrong pairs: linear embeddings of planted clusters, no video.

The paper holds that its loss (Eq. 9) is robust to wrong pairs as q -> 1, while q -> 0 (InfoNCE) weighs them most. Here
each loss trains a linear embedding on pairs of which a known share is wrong, and clean held-out features are given to
the nearest class centre.
"""

from __future__ import annotations

import functools
import io
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor
from torch.nn.functional import normalize

from harness.environment import cpu_name
from harness.files import atomic_write
from harness.leaderboard import cell, mean_and_half_width
from harness.seeds import numpy_stream
from wstal.errors import UserError
from wstal.losses.contrast import info_nce, robust_contrast

# exponents of Eq. 9; None is InfoNCE
LOSSES: dict[str, float | None] = {"InfoNCE": None, "q = 0.2": 0.2, "q = 0.5": 0.5, "q = 1": 1.0}
REFERENCE, USED_BY_PAPER, ROBUST = "InfoNCE", "q = 0.2", "q = 1"
DENSITY = 0.5
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
# never reported: --seeds counts to 1,024 at most
SELECTION_SEED = 10_000
CLEAN_BAND = (85.0, 97.0)
TEMPERATURES = (0.01, 10.0)


@dataclass(frozen=True)
class Problem:
    """Planted clusters and how an embedding of them is trained; numbers of features are per class.

    A feature is its class's centre, a random unit vector of the signal columns, plus Gaussian noise of norm about
    `spread`, beside distractor columns of pure noise of norm about `distractor_spread`; the whole has norm 1.
    """

    classes: int = 10
    signal_columns: int = 16
    distractor_columns: int = 48
    spread: float = 0.8
    distractor_spread: float = 3.0
    anchors: int = 20
    slots: int = 24
    held_out: int = 200
    embedding: int = 16
    steps: int = 200


@dataclass(frozen=True)
class Layout:
    """How many rows of the loss an anchor has, and how many positives and negatives each row holds."""

    rows: int
    positives: int
    negatives: int


@dataclass(frozen=True)
class Case:
    """One kind of noise.

    Attributes:
        name: as a key.
        title: as a heading.
        layout: of the pairs.
        symmetric: negatives are wrong at the same rate as positives.
        rates: shares of pairs that are wrong, 0 first.
        judged: rates at which the paper's claim is put to the test.
    """

    name: str
    title: str
    layout: Layout
    symmetric: bool
    rates: tuple[float, ...]
    judged: tuple[float, ...]


PROBLEM = Problem()
CASES = (
    Case("positives", "Wrong positives", Layout(1, 10, 30), False, (0.0, 0.1, 0.2, 0.4, 0.6), (0.4, 0.6)),
    Case("symmetric", "Symmetric noise, many negatives", Layout(1, 10, 30), True, (0.0, 0.2, 0.4), (0.2, 0.4)),
    Case("symmetric-single", "Symmetric noise, one negative", Layout(10, 1, 1), True, (0.0, 0.2, 0.4), (0.2, 0.4)),
)


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


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        accuracies: one row a training: `case`, `loss`, `rate`, `seed`, `accuracy` in percent.
        learning_rates: the chosen rate and its clean validation accuracy, by layout and loss.
        untrained: accuracy of the initial embedding, one a seed, in percent.
        problem: the clusters.
        cases: the kinds of noise.
        temperature: tau.
    """

    accuracies: pd.DataFrame
    learning_rates: dict[Layout, dict[str, tuple[float, float]]]
    untrained: list[float]
    problem: Problem
    cases: tuple[Case, ...]
    temperature: float

    @property
    def seeds(self) -> int:
        """How many seeds, from 0."""
        return len(self.untrained)

    def of(self, case: Case) -> pd.DataFrame:
        """The accuracies of one case."""
        return self.accuracies[self.accuracies["case"] == case.name]


@dataclass(frozen=True)
class Verdict:
    """What the numbers of one case say of the paper's claim.

    Attributes:
        outcome: `holds`, `holds in part`, `is not shown`, `is contradicted`, `is mixed` or `cannot be told`.
        reasons: sentences.
        table: one row a judged rate: points lost, and their differences, paired over seeds.
    """

    outcome: str
    reasons: tuple[str, ...]
    table: tuple[dict[str, str], ...]


def draw_clusters(problem: Problem, seed: int) -> Clusters:
    """Clusters and the four draws from them."""
    stream = numpy_stream(seed, "clusters")
    centres = stream.normal(size=(problem.classes, problem.signal_columns))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(count: int) -> Samples:
        classes = np.repeat(np.arange(problem.classes), count)
        noise = stream.normal(size=(len(classes), problem.signal_columns)) / math.sqrt(problem.signal_columns)
        distractors = stream.normal(size=(len(classes), problem.distractor_columns))
        distractors *= problem.distractor_spread / math.sqrt(problem.distractor_columns)
        features = np.concatenate([centres[classes] + problem.spread * noise, distractors], axis=1)
        return Samples(normalize(torch.from_numpy(features), dim=1), torch.from_numpy(classes))

    return Clusters(draw(problem.anchors), draw(problem.slots), draw(problem.held_out), draw(problem.held_out))


def draw_pairs(clusters: Clusters, layout: Layout, rate: float, symmetric: bool, seed: int) -> Tensor:
    """The slots that each anchor is paired with; the share `rate` of them, of each anchor's alone, is wrong.

    A wrong positive is a slot of another class than the anchor's, uniform over them; a wrong negative (symmetric
    noise) is a slot of its own class. No slot meets an anchor twice. With one seed, pairs that are wrong at a rate
    are wrong at every higher one.

    Returns:
        Indices of slots, `[anchors, rows, positives + negatives]`, positives first.
    """
    stream = numpy_stream(seed, "pairs")
    slot_classes = clusters.slots.classes.numpy()
    positives, negatives = layout.rows * layout.positives, layout.rows * layout.negatives
    pairs = []
    for anchor_class in clusters.anchors.classes.tolist():
        own = stream.permutation(np.flatnonzero(slot_classes == anchor_class))
        other = stream.permutation(np.flatnonzero(slot_classes != anchor_class))
        wrong_positives = stream.permutation(positives)[: round(rate * positives)]
        wrong_negatives = stream.permutation(negatives)[: round(rate * negatives) if symmetric else 0]
        positive, negative = own[:positives].copy(), other[:negatives].copy()
        positive[wrong_positives] = other[negatives:][: len(wrong_positives)]
        negative[wrong_negatives] = own[positives:][: len(wrong_negatives)]
        pairs.append(np.concatenate([positive.reshape(layout.rows, -1), negative.reshape(layout.rows, -1)], axis=1))
    return torch.from_numpy(np.stack(pairs))


def initial_weights(problem: Problem, seed: int) -> Tensor:
    """The embedding before training, `[columns, embedding]`."""
    columns = problem.signal_columns + problem.distractor_columns
    weights = numpy_stream(seed, "initialisation").normal(size=(columns, problem.embedding))
    return torch.from_numpy(weights / math.sqrt(columns))


def train(
    weights: Tensor,
    clusters: Clusters,
    pairs: Tensor,
    positives: int,
    q: float | None,
    temperature: float,
    learning_rate: float,
    steps: int,
) -> Tensor:
    """The embedding after `steps` of Adam on all pairs at once; slots carry no gradient, as those of a memory bank.

    Args:
        weights: `[columns, embedding]` to start from.
        clusters: whose anchors and slots are embedded.
        pairs: `[anchors, rows, pairs]` indices of slots.
        positives: how many of a row's pairs, the first ones, are positive.
        q: of Eq. 9; None is InfoNCE.
        temperature: tau.
        learning_rate: of Adam.
        steps: of Adam.
    """
    weights = weights.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=learning_rate, foreach=False)
    positive = (torch.arange(pairs.shape[2]) < positives).expand(pairs.shape[0] * pairs.shape[1], -1)
    for _ in range(steps):
        anchors = normalize(clusters.anchors.features @ weights, dim=1)
        slots = normalize(clusters.slots.features @ weights.detach(), dim=1)
        cosines = (anchors @ slots.T).gather(1, pairs.flatten(1)).view(positive.shape)
        if q is None:
            loss = info_nce(cosines, positive, temperature)
        else:
            loss = robust_contrast(cosines, positive, q, DENSITY, temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weights.detach()


def nearest_centre_accuracy(weights: Tensor, known: Samples, held_out: Samples) -> float:
    """Percent of held-out features whose embedding is nearest, by cosine, to the mean embedding of their class.

    Args:
        weights: `[columns, embedding]`.
        known: features with true classes, which make the centres.
        held_out: features to classify.
    """
    embedded = normalize(known.features @ weights, dim=1)
    classes = known.classes.unique()
    centres = normalize(torch.stack([embedded[known.classes == one].mean(dim=0) for one in classes]), dim=1)
    # the length of an embedding scales its cosines alike, so it need not be divided out
    nearest = classes[(held_out.features @ weights @ centres.T).argmax(dim=1)]
    return 100 * float((nearest == held_out.classes).double().mean())


def measure(
    problem: Problem,
    cases: Sequence[Case],
    seeds: int,
    temperature: float,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Measured:
    """Choose each loss's learning rate, then train it at every rate of noise with seeds 0 to `seeds` - 1.

    Gradients of the losses differ in scale, so each loss has a learning rate of its own: the one of the grid with the
    highest accuracy on clean validation features after training without noise (the lower of equals), with a seed that
    is not reported.

    Args:
        problem: the clusters.
        cases: the kinds of noise.
        seeds: each draws clusters, pairs and initial weights of its own, the same for every loss.
        temperature: tau.
        progress: called with the number of trainings done and of all.

    Raises:
        UserError: fewer than two seeds, or a temperature out of range.
    """
    if seeds < 2:
        raise UserError(f"--seeds wants 2 or more, since the intervals are over seeds; got {seeds}.")
    low, high = TEMPERATURES
    if not low <= temperature <= high:
        raise UserError(f"--temperature wants a number from {low:g} to {high:g}, got {temperature:g}.")
    layouts = list(dict.fromkeys(case.layout for case in cases))
    # without noise, cases of one layout are one training
    noises = {(case.layout, rate, case.symmetric and rate > 0) for case in cases for rate in case.rates}
    total = len(LOSSES) * (len(LEARNING_RATES) * len(layouts) + seeds * len(noises))
    done = 0
    drawn = functools.cache(functools.partial(draw_clusters, problem))

    @functools.cache
    def trained(layout: Layout, loss: str, rate: float, symmetric: bool, seed: int, learning_rate: float) -> Tensor:
        nonlocal done
        pairs = draw_pairs(drawn(seed), layout, rate, symmetric, seed)
        weights = train(
            initial_weights(problem, seed), drawn(seed), pairs, layout.positives, LOSSES[loss], temperature,
            learning_rate, problem.steps,
        )  # fmt: skip
        done += 1
        progress(done, total)
        return weights

    def validation(layout: Layout, loss: str, learning_rate: float) -> float:
        clusters = drawn(SELECTION_SEED)
        weights = trained(layout, loss, 0.0, False, SELECTION_SEED, learning_rate)
        return nearest_centre_accuracy(weights, clusters.anchors, clusters.validation)

    def test(case: Case, loss: str, rate: float, seed: int) -> float:
        learning_rate, _ = chosen[case.layout][loss]
        weights = trained(case.layout, loss, rate, case.symmetric and rate > 0, seed, learning_rate)
        return nearest_centre_accuracy(weights, drawn(seed).anchors, drawn(seed).test)

    chosen: dict[Layout, dict[str, tuple[float, float]]] = {layout: {} for layout in layouts}
    for layout in layouts:
        for loss in LOSSES:
            accuracies = {learning_rate: validation(layout, loss, learning_rate) for learning_rate in LEARNING_RATES}
            best = max(accuracies, key=accuracies.__getitem__)
            chosen[layout][loss] = (best, accuracies[best])
    rows = [
        (case.name, loss, rate, seed, test(case, loss, rate, seed))
        for case in cases
        for loss in LOSSES
        for rate in case.rates
        for seed in range(seeds)
    ]
    untrained = [
        nearest_centre_accuracy(initial_weights(problem, seed), drawn(seed).anchors, drawn(seed).test)
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows, columns=["case", "loss", "rate", "seed", "accuracy"])
    return Measured(frame, chosen, untrained, problem, tuple(cases), temperature)
