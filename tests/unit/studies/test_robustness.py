from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.studies.planted_clusters import Problem, Samples, draw_clusters, initial_weights, nearest_centre_accuracy
from harness.studies.robustness import (
    LEARNING_RATES,
    LOSSES,
    PROBLEM,
    SELECTION_SEEDS,
    Case,
    Layout,
    RobustnessFile,
    draw_pairs,
    measure,
    planned_cases,
    tolerated_rate,
    train,
)
from wstal.errors import UserError
from wstal.losses.contrast import robust_contrast

TINY = Problem(
    classes=3, signal_columns=3, distractor_columns=2, anchors=3, slots=24, held_out=10, embedding=3, steps=2
)
CASES = planned_cases()


@pytest.fixture(scope="module")
def tiny() -> RobustnessFile:
    return measure(TINY, CASES, seeds=2)


def wrong_shares(case: Case, rate: float, problem: Problem, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each anchor's shares of wrong positives and of wrong negatives, and the slots it meets."""
    clusters = draw_clusters(problem, seed)
    pairs = draw_pairs(clusters, case.layout, rate, case.symmetric, seed)
    same = clusters.slots.classes[pairs] == clusters.anchors.classes[:, None, None]
    positives = case.layout.positives
    wrong_positives = (~same[:, :, :positives]).flatten(1).double().mean(dim=1).numpy()
    wrong_negatives = same[:, :, positives:].flatten(1).double().mean(dim=1).numpy()
    return wrong_positives, wrong_negatives, pairs.flatten(1).numpy()


@pytest.mark.parametrize("problem", [PROBLEM, TINY])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_anchor_has_exactly_the_stated_share_of_wrong_pairs(case: Case, problem: Problem) -> None:
    for rate in case.rates:
        positives, negatives, pairs = wrong_shares(case, rate, problem, seed=3)
        assert positives == pytest.approx(np.full(len(positives), rate))
        assert negatives == pytest.approx(np.full(len(negatives), rate if case.symmetric else 0.0))
        assert all(len(set(row)) == len(row) for row in pairs.tolist())
        assert pairs.shape[1] == case.layout.rows * (case.layout.positives + case.layout.negatives)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@given(seed=st.integers(0, 2**32))
def test_wrong_pairs_stay_wrong_at_higher_rates_and_the_others_stay_as_they_are(case: Case, seed: int) -> None:
    clusters = draw_clusters(TINY, seed)
    clean, low, high = (draw_pairs(clusters, case.layout, rate, case.symmetric, seed) for rate in (0.0, 0.2, 0.4))
    assert bool(((low == clean) | (low == high)).all())
    assert torch.equal(draw_pairs(clusters, case.layout, 0.4, case.symmetric, seed), high)


def test_wrong_positives_come_from_all_other_classes_alike() -> None:
    clusters = draw_clusters(PROBLEM, 0)
    case = CASES[0]
    pairs = draw_pairs(clusters, case.layout, 0.6, case.symmetric, 0)[:, :, : case.layout.positives]
    offset = (clusters.slots.classes[pairs] - clusters.anchors.classes[:, None, None]) % PROBLEM.classes
    counts = torch.bincount(offset.flatten(), minlength=PROBLEM.classes)
    wrong = 6 * PROBLEM.classes * PROBLEM.anchors
    assert counts[0] == 4 * PROBLEM.classes * PROBLEM.anchors
    # 1,200 draws over nine offsets: five standard deviations of each count are 54
    assert (counts[1:] - wrong / 9).abs().max() < 54


def test_symmetric_noise_hits_both_pairs_of_a_row_independently() -> None:
    clusters, case = draw_clusters(PROBLEM, 0), CASES[2]
    pairs = draw_pairs(clusters, case.layout, 0.4, True, 0)
    same = clusters.slots.classes[pairs] == clusters.anchors.classes[:, None, None]
    both = (~same[:, :, 0] & same[:, :, 1]).double().mean().item()
    assert both == pytest.approx(0.4 * 0.4, abs=0.05)


def test_clusters_are_what_they_say() -> None:
    problem = replace(PROBLEM, anchors=400)
    anchors = draw_clusters(problem, 0).anchors
    assert anchors.features.norm(dim=1).numpy() == pytest.approx(np.ones(4000), abs=1e-5)
    assert anchors.classes.bincount().tolist() == [400] * 10
    means = torch.stack([anchors.features[anchors.classes == one].mean(dim=0) for one in range(10)])
    signal, distractors = means.split([problem.signal_columns, problem.distractor_columns], dim=1)
    # before normalisation a centre has length 1 and features about sqrt(1 + 0.75^2 + 3^2) = 3.25
    assert signal.norm(dim=1).numpy() == pytest.approx(np.full(10, 1 / 3.25), rel=0.15)
    # a mean of 400 has distractors of 3 / 3.25 / sqrt(400)
    assert distractors.norm(dim=1).numpy() == pytest.approx(np.full(10, 3 / 3.25 / 20), rel=0.4)


def test_accuracy_by_hand() -> None:
    # class 0 points right, class 1 up; the third column is ignored by the embedding, lengths do not count
    known = Samples(torch.tensor([[2.0, 0, 9], [1.0, 1, 0], [0.0, 3, 0], [0.0, 1, -9]]), torch.tensor([0, 0, 1, 1]))
    weights = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    # centres lie at 22.5 and 90 degrees: the border is at 56.25 degrees
    angles = [0.0, 55.0, 57.0, 90.0, 120.0]
    features = torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a)), 5.0] for a in angles])
    for classes, percent in (([0, 0, 1, 1, 1], 100), ([0, 1, 0, 1, 1], 60), ([1, 1, 0, 0, 0], 0)):
        held_out = Samples(features, torch.tensor(classes))
        assert nearest_centre_accuracy(weights, known, held_out) == pytest.approx(percent)
        scaled = Samples(features * torch.tensor([1.0, 7, 0.1, 3, 2])[:, None], held_out.classes)
        assert nearest_centre_accuracy(weights, known, scaled) == pytest.approx(percent)


def test_random_labels_give_chance() -> None:
    problem = replace(PROBLEM, held_out=400)
    clusters = draw_clusters(problem, 1)
    shuffled = clusters.test.classes[torch.randperm(4000, generator=torch.Generator().manual_seed(0))]
    random = nearest_centre_accuracy(
        initial_weights(problem, 1), clusters.anchors, Samples(clusters.test.features, shuffled)
    )
    # five standard deviations of 4,000 draws at 10 %
    assert random == pytest.approx(10, abs=2.4)
    true = nearest_centre_accuracy(initial_weights(problem, 1), clusters.anchors, clusters.test)
    assert true > 20


@pytest.mark.parametrize("q", LOSSES.values())
def test_every_loss_learns_clean_pairs_and_falls_short_of_them_under_flipped_ones(q: float | None) -> None:
    layout = Layout(1, 10, 30, 0.5)
    clusters, start = draw_clusters(PROBLEM, 0), initial_weights(PROBLEM, 0)

    def accuracy(rate: float) -> float:
        pairs = draw_pairs(clusters, layout, rate, True, 0)
        weights = train(start, clusters, pairs, layout, q, 3e-3, 60)
        return nearest_centre_accuracy(weights, clusters.anchors, clusters.test)

    assert accuracy(0.0) > 1.5 * nearest_centre_accuracy(start, clusters.anchors, clusters.test)
    assert accuracy(0.4) < accuracy(0.0) - 10


def expected_loss(cosine: float, negatives: int, rate: float) -> float:
    """Mean of Eq. 9 at q = 1 over all flips, where pairs of one class have the cosine and others have -0.2."""
    total = 0.0
    for flips in itertools.product((False, True), repeat=1 + negatives):
        same = [not flips[0], *flips[1:]]
        cosines = torch.tensor([[cosine if one else -0.2 for one in same]], dtype=torch.float64)
        positive = torch.tensor([[True] + [False] * negatives])
        chance = math.prod(rate if flip else 1 - rate for flip in flips)
        total += chance * robust_contrast(cosines, positive, q=1.0, density=0.5, temperature=0.5).item()
    return total


@pytest.mark.parametrize("negatives", [1, 2, 5])
def test_the_expected_loss_turns_at_the_tolerated_rate(negatives: int) -> None:
    turn = tolerated_rate(negatives)
    assert turn == pytest.approx(1 / (negatives + 1))
    assert expected_loss(0.9, negatives, turn) == pytest.approx(expected_loss(0.1, negatives, turn))
    assert expected_loss(0.9, negatives, turn - 0.05) < expected_loss(0.1, negatives, turn - 0.05)
    assert expected_loss(0.9, negatives, turn + 0.05) > expected_loss(0.1, negatives, turn + 0.05)


def test_the_rates_are_the_best_on_clean_pairs_of_seeds_that_are_not_reported(tiny: RobustnessFile) -> None:
    layout = CASES[0].layout
    assert not set(SELECTION_SEEDS) & set(range(1025))

    def validation(learning_rate: float, q: float | None, seed: int) -> float:
        clusters = draw_clusters(TINY, seed)
        pairs = draw_pairs(clusters, layout, 0.0, False, seed)
        start = initial_weights(TINY, seed)
        weights = train(start, clusters, pairs, layout, q, learning_rate, TINY.steps)
        return nearest_centre_accuracy(weights, clusters.anchors, clusters.validation)

    for loss, q in LOSSES.items():
        means = [np.mean([validation(rate, q, seed) for seed in SELECTION_SEEDS]) for rate in LEARNING_RATES]
        rate, accuracy = tiny.results[0].learning_rates[loss]
        assert rate == LEARNING_RATES[int(np.argmax(means))]
        assert accuracy == pytest.approx(max(means))


def test_the_same_numbers_again(tiny: RobustnessFile) -> None:
    steps = []
    again = measure(TINY, CASES, 2, lambda done, total: steps.append((done, total)))
    assert again == tiny
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))


def test_more_seeds_change_no_seed(tiny: RobustnessFile) -> None:
    more = measure(TINY, CASES[:1], seeds=3)
    for loss, by_rate in more.results[0].accuracies.items():
        for rate, values in by_rate.items():
            assert values[:2] == tiny.results[0].accuracies[loss][rate]


@pytest.mark.parametrize("temperature", [0.0, 0.049, 10.1, math.nan, -1.0])
def test_a_temperature_out_of_range_is_an_error(temperature: float) -> None:
    with pytest.raises(UserError, match=r"--temperature wants a number from 0\.05 to 10"):
        planned_cases(temperature)


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(UserError, match="2 or more"):
        measure(TINY, CASES, seeds=1)


@pytest.mark.parametrize("q", LOSSES.values())
def test_the_lowest_temperature_trains_without_overflow(q: float | None) -> None:
    layout = planned_cases(0.05)[0].layout
    clusters, start = draw_clusters(TINY, 0), initial_weights(TINY, 0)
    pairs = draw_pairs(clusters, layout, 0.6, False, 0)
    weights = train(start, clusters, pairs, layout, q, 1e-2, 20)
    assert bool(weights.isfinite().all())
    assert not torch.allclose(weights, start, atol=1e-3)
