"""Robustness study: contrastive losses trained on pairs of which a known share is wrong, on planted clusters.

The paper holds that its loss (Eq. 9) is robust to wrong pairs as q -> 1, while q -> 0 (InfoNCE) weighs them most. Here
each loss trains a linear embedding, and clean held-out features are given to the nearest class centre.
"""

from __future__ import annotations

import functools
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from statistics import fmean
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn.functional import normalize

from harness.random_streams import numpy_stream
from harness.runs.environment import cpu_name
from harness.studies.planted_clusters import Clusters, Problem, draw_clusters, initial_weights, nearest_centre_accuracy
from harness.studies.stored import Percent, StoredModel, StudyFile
from wstal.errors import UserError
from wstal.losses.contrast import info_nce, robust_contrast

# exponents of Eq. 9; None is InfoNCE
LOSSES: dict[str, float | None] = {"InfoNCE": None, "q = 0.2": 0.2, "q = 0.5": 0.5, "q = 1": 1.0}
DENSITY = 0.5
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
# never reported: --seeds counts to 1,024 at most
SELECTION_SEEDS = (10_000, 10_001, 10_002)
# at q = 1 Adam squares gradients of exp(1 / tau) / tau, in single precision
TEMPERATURES = (0.05, 10.0)
PROBLEM = Problem()

Accuracies = dict[str, dict[float, list[Percent]]]
"""Percent, one for each seed, by loss and rate of noise."""
STORED = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=STORED)
class Layout:
    """Pairs of an anchor: rows of the loss, positives and negatives in each, and tau."""

    rows: PositiveInt
    positives: PositiveInt
    negatives: PositiveInt
    temperature: PositiveFloat


@dataclass(frozen=True, config=STORED)
class Case:
    """Kind of noise in the pairs.

    Attributes:
        name: as a key.
        title: as a heading.
        about: description of the wrong pairs.
        layout: of the pairs.
        symmetric: negatives are wrong at the same rate as positives.
        rates: shares of pairs that are wrong, 0 first, increasing.
    """

    name: str
    title: str
    about: str
    layout: Layout
    symmetric: bool
    rates: tuple[float, ...]

    @property
    def judged(self) -> tuple[float, ...]:
        """Two highest rates, at which the paper's claim is tested."""
        return self.rates[-2:]


class CaseResult(StoredModel):
    """Measurements of one case."""

    case: Case
    learning_rates: dict[str, tuple[PositiveFloat, Percent]]
    """The chosen rate and its clean validation accuracy, by loss."""
    accuracies: Accuracies


class RobustnessFile(StudyFile):
    """Numbers of the study and the environment that they were computed in."""

    FILE: ClassVar[str] = "robustness.json"
    REMEDY: ClassVar[str] = "Measure again with `wstal-bench paper robustness`."

    version: Literal[1] = Field(alias="schema")
    synthetic: Literal[True] = True
    environment: dict[str, str]
    problem: Problem
    untrained: Annotated[list[Percent], Field(min_length=2)]
    """Accuracy of the initial embedding, one for each seed."""
    results: Annotated[list[CaseResult], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for result in self.results:
            if not result.accuracies.keys() == result.learning_rates.keys() == LOSSES.keys():
                raise ValueError(f"the case {result.case.name!r} has not one entry a loss: {', '.join(LOSSES)}")
            for loss, by_rate in result.accuracies.items():
                if tuple(by_rate) != result.case.rates or {len(values) for values in by_rate.values()} != {self.seeds}:
                    raise ValueError(f"{result.case.name!r}, {loss}: not {self.seeds} values at each rate of noise")
        return self

    @property
    def seeds(self) -> int:
        """Number of seeds, from 0."""
        return len(self.untrained)


def planned_cases(temperature: float = 0.1) -> tuple[Case, ...]:
    """Return the cases of the page.

    Args:
        temperature: tau from 0.05 to 10 of all cases but the last, which has a tau of its own.

    Raises:
        UserError: the temperature is out of range.
    """
    low, high = TEMPERATURES
    if not low <= temperature <= high:
        raise UserError(f"--temperature wants a number from {low:g} to {high:g}, got {temperature:g}.")
    many, single = Layout(1, 10, 30, temperature), Layout(10, 1, 1, temperature)
    soft = replace(single, temperature=0.5)
    symmetric = functools.partial(Case, symmetric=True, rates=(0.0, 0.2, 0.4))
    return (
        Case(
            "positives",
            "Wrong positives",
            f"An anchor meets {many.positives} positives and {many.negatives} negatives. The share of the positives "
            "is replaced by features of other classes; negatives are clean.",
            many,
            symmetric=False,
            rates=(0.0, 0.1, 0.2, 0.4, 0.6),
        ),
        symmetric(
            "symmetric",
            "Symmetric noise, many negatives",
            f"The same pairs; the share of the negatives is replaced too, by features of the anchor's class. "
            f"{_turning_point(many)}",
            many,
        ),
        symmetric(
            "symmetric-single",
            "Symmetric noise, one negative",
            f"Each positive of an anchor meets one negative, as the theory has it. {_turning_point(single)}",
            single,
        ),
        symmetric(
            "symmetric-soft",
            "Symmetric noise, one negative, high temperature",
            f"The same at tau = {soft.temperature:g}. At q = 1 a pair counts by exp(cosine / tau), which from cosine "
            f"-1 to 1 grows {math.exp(2 / soft.temperature):.2g} times, and {math.exp(2 / temperature):.2g} times at "
            f"tau = {temperature:g}, where few pairs decide all.",
            soft,
        ),
    )


def tolerated_rate(negatives: int) -> float:
    """Return the rate of symmetric noise up to which q = 1 still draws pairs of one class together, in expectation.

    With K negatives in a row, Eq. 9 at q = 1 is linear in the exponentials; that of a pair of one class has the
    expected weight -(1 - lambda)(1 - rate) + lambda K rate.
    """
    return (1 - DENSITY) / (1 - DENSITY + DENSITY * negatives)


def _turning_point(layout: Layout) -> str:
    rate = tolerated_rate(layout.negatives)
    return (
        f"At q = 1 the expected loss draws pairs of one class together below a noise of 1 / {1 / rate:g} only, and "
        "pushes them apart above it."
    )


def draw_pairs(clusters: Clusters, layout: Layout, rate: float, symmetric: bool, seed: int) -> Tensor:
    """Draw the slots that each anchor is paired with, of which the share `rate` is wrong.

    A wrong positive is a slot of another class than the anchor's, uniform over them; a wrong negative (symmetric
    noise) is a slot of its own class. No slot meets an anchor twice. With one seed, pairs that are wrong at a rate
    are wrong at every higher one.

    Args:
        clusters: whose slots are drawn.
        layout: numbers of positives and negatives.
        rate: share of each anchor's pairs that is wrong.
        symmetric: negatives are wrong at the same rate as positives.
        seed: of the draw.

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


def train(
    weights: Tensor,
    clusters: Clusters,
    pairs: Tensor,
    layout: Layout,
    q: float | None,
    learning_rate: float,
    steps: int,
) -> Tensor:
    """Train an embedding by Adam on all pairs at once; slots carry no gradient, like those of a memory bank.

    Args:
        weights: `[columns, embedding]` to start from.
        clusters: whose anchors and slots are embedded.
        pairs: `[anchors, rows, pairs]` indices of slots, of this layout.
        layout: how many of a row's pairs, the first ones, are positive; tau.
        q: of Eq. 9; None is InfoNCE.
        learning_rate: of Adam.
        steps: of Adam.
    """
    weights = weights.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=learning_rate, foreach=False)
    positive = (torch.arange(pairs.shape[2]) < layout.positives).expand(pairs.shape[0] * pairs.shape[1], -1)
    for _ in range(steps):
        anchors = normalize(clusters.anchors.features @ weights, dim=1)
        slots = normalize(clusters.slots.features @ weights.detach(), dim=1)
        cosines = (anchors @ slots.T).gather(1, pairs.flatten(1)).view(positive.shape)
        if q is None:
            loss = info_nce(cosines, positive, layout.temperature)
        else:
            loss = robust_contrast(cosines, positive, q, DENSITY, layout.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return weights.detach()


def measure(
    problem: Problem,
    cases: Sequence[Case],
    seeds: int,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> RobustnessFile:
    """Choose each loss's learning rate, then train it at every rate of noise with seeds 0 to `seeds` - 1.

    Gradients of the losses differ in scale, so each loss has a learning rate of its own: the one of the grid with the
    highest accuracy on clean validation features after training without noise (the lower of equals), with seeds that
    are not reported.

    Args:
        problem: the clusters.
        cases: the kinds of noise.
        seeds: each draws clusters, pairs and initial weights of its own, the same for every loss.
        progress: called with the number of trainings done and of all.

    Raises:
        UserError: fewer than two seeds.
    """
    if seeds < 2:
        raise UserError(f"--seeds wants 2 or more, since the intervals are over seeds; got {seeds}.")
    layouts = list(dict.fromkeys(case.layout for case in cases))
    # without noise, cases of one layout are one training
    noises = {(case.layout, rate, case.symmetric and rate > 0) for case in cases for rate in case.rates}
    total = len(LOSSES) * (len(LEARNING_RATES) * len(SELECTION_SEEDS) * len(layouts) + seeds * len(noises))
    done = 0
    drawn = functools.cache(functools.partial(draw_clusters, problem))

    @functools.cache
    def trained(layout: Layout, loss: str, rate: float, symmetric: bool, seed: int, learning_rate: float) -> Tensor:
        nonlocal done
        pairs = draw_pairs(drawn(seed), layout, rate, symmetric, seed)
        start = initial_weights(problem, seed)
        weights = train(start, drawn(seed), pairs, layout, LOSSES[loss], learning_rate, problem.steps)
        done += 1
        progress(done, total)
        return weights

    def validation(layout: Layout, loss: str, learning_rate: float) -> float:
        weights = {seed: trained(layout, loss, 0.0, False, seed, learning_rate) for seed in SELECTION_SEEDS}
        return fmean(nearest_centre_accuracy(weights[n], drawn(n).anchors, drawn(n).validation) for n in weights)

    def test(weights: Tensor, seed: int) -> float:
        return nearest_centre_accuracy(weights, drawn(seed).anchors, drawn(seed).test)

    def noisy(case: Case, loss: str, rate: float, seed: int) -> float:
        learning_rate, _ = chosen[case.layout][loss]
        return test(trained(case.layout, loss, rate, case.symmetric and rate > 0, seed, learning_rate), seed)

    chosen: dict[Layout, dict[str, tuple[float, float]]] = {layout: {} for layout in layouts}
    for layout in layouts:
        for loss in LOSSES:
            clean = {learning_rate: validation(layout, loss, learning_rate) for learning_rate in LEARNING_RATES}
            best = max(clean, key=clean.__getitem__)
            chosen[layout][loss] = (best, clean[best])
    results = [
        CaseResult(
            case=case,
            learning_rates=chosen[case.layout],
            accuracies={
                loss: {rate: [noisy(case, loss, rate, seed) for seed in range(seeds)] for rate in case.rates}
                for loss in LOSSES
            },
        )
        for case in cases
    ]
    untrained = [test(initial_weights(problem, seed), seed) for seed in range(seeds)]
    return RobustnessFile(schema=1, environment=_environment(), problem=problem, untrained=untrained, results=results)


def _environment() -> dict[str, str]:
    packages = {name: version(name) for name in ("wstal-bench", "torch", "numpy")}
    return packages | {"python": platform.python_version(), "cpu": cpu_name(), "threads": str(torch.get_num_threads())}
