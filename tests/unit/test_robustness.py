from __future__ import annotations

import itertools
import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.robustness import (
    CANNOT,
    CLEAN_BAND,
    LEARNING_RATES,
    LOSSES,
    PROBLEM,
    SELECTION_SEEDS,
    VARIES,
    Accuracies,
    Case,
    Layout,
    Measured,
    Problem,
    Samples,
    Verdict,
    draw_clusters,
    draw_pairs,
    initial_weights,
    judge,
    measure,
    nearest_centre_accuracy,
    planned_cases,
    render_figure,
    render_page,
    to_json,
    tolerated_rate,
    train,
    write,
)
from wstal.errors import UserError
from wstal.losses.contrast import robust_contrast

TINY = Problem(
    classes=3, signal_columns=3, distractor_columns=2, anchors=3, slots=24, held_out=10, embedding=3, steps=2
)
CASES = planned_cases()


@pytest.fixture(scope="module")
def tiny() -> Measured:
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
        weights = train(start, clusters, pairs, layout.positives, q, layout.temperature, 3e-3, 60)
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


def frame(**losses: tuple[float, float, float]) -> Accuracies:
    """Accuracies at 0, 0.4 and 0.6 with a spread of +-0.1 over three seeds, the same for all losses of one seed."""
    named = {"InfoNCE": losses["nce"], "q = 0.2": losses.get("q02", losses["nce"]), "q = 1": losses["q1"]}
    rates = (0.0, 0.4, 0.6)
    return {
        loss: {rate: [value + 0.1 * seed for seed in (-1, 0, 1)] for rate, value in zip(rates, values, strict=True)}
        for loss, values in named.items()
    }


def verdict(**losses: tuple[float, float, float]) -> Verdict:
    return judge(frame(**losses), (0.4, 0.6))


@pytest.mark.parametrize(
    ("q1", "outcome"),
    [
        ((90, 88, 85), "holds"),
        ((90, 88, 70), "holds in part"),
        ((90, 80, 70), "is not shown"),
        ((90, 80, 60), "is contradicted in part"),
        ((90, 75, 60), "is contradicted"),
        ((90, 88, 60), VARIES),
        ((90, 75, 85), VARIES),
    ],
)
def test_the_verdict_in_all_its_outcomes(q1: tuple[float, float, float], outcome: str) -> None:
    assert verdict(nce=(90, 80, 70), q1=q1).outcome == outcome


@pytest.mark.parametrize("clean", [CLEAN_BAND[0] - 0.1, CLEAN_BAND[1] + 0.1])
def test_nothing_is_told_where_the_problem_is_too_hard_or_too_easy(clean: float) -> None:
    got = verdict(nce=(clean, 70, 60), q1=(90, 89, 88))
    assert got.outcome == CANNOT
    assert got.reasons[0] == f"InfoNCE has {clean:.1f} % without noise, outside 85 to 97 %."


def test_nothing_is_told_where_noise_does_no_harm() -> None:
    assert verdict(nce=(90, 90, 91), q1=(90, 80, 70)).outcome == CANNOT
    assert verdict(nce=(90, 90, 80), q1=(90, 90, 85)).outcome == "holds in part"


def test_an_interval_that_holds_zero_decides_nothing() -> None:
    # differences of what is lost at 0.4: 1, 5, -1 points, mean 1.67; t-interval -5.9 to 9.3
    rows = frame(nce=(90, 80, 70), q1=(90, 80, 70))
    rows["q = 1"][0.4] = [accuracy + spared for accuracy, spared in zip(rows["q = 1"][0.4], (1, 5, -1), strict=True)]
    got = judge(rows, (0.4,))
    assert got.outcome == "is not shown"
    half = 4.302653 * np.std([1, 5, -1], ddof=1) / math.sqrt(3)
    assert got.table[0]["InfoNCE less q = 1"] == f"1.7 ± {half:.1f}"


def test_a_verdict_says_what_it_rests_on() -> None:
    got = verdict(nce=(90, 80, 70), q02=(92, 84, 60), q1=(80, 75, 65))
    assert got.reasons == (
        "q = 1 loses less than InfoNCE at noise 0.4, 0.6.",
        "q = 1 is less accurate than InfoNCE at noise 0, 0.4, 0.6.",
        "q = 1 has less to lose: 80.0 % without noise, InfoNCE 90.0 %.",
        "At noise 0.4, what q = 0.2 loses is between both (told apart from InfoNCE and q = 1).",
        "At noise 0.6, what q = 0.2 loses is more than both (told apart from InfoNCE and q = 1).",
    )
    assert got.table == (
        {"points lost": "to noise 0.4", "InfoNCE": "10.0 ± 0.0", "q = 0.2": "8.0 ± 0.0", "q = 1": "5.0 ± 0.0",
         "InfoNCE less q = 1": "5.0 ± 0.0"},
        {"points lost": "to noise 0.6", "InfoNCE": "20.0 ± 0.0", "q = 0.2": "32.0 ± 0.0", "q = 1": "15.0 ± 0.0",
         "InfoNCE less q = 1": "5.0 ± 0.0"},
    )  # fmt: skip
    less = verdict(nce=(90, 80, 70), q02=(90, 89, 70), q1=(90, 85, 85)).reasons
    assert "At noise 0.4, what q = 0.2 loses is less than both (told apart from InfoNCE and q = 1)." in less
    assert "q = 1 is more accurate than InfoNCE at noise 0.4, 0.6." in less


def test_the_rates_are_the_best_on_clean_pairs_of_seeds_that_are_not_reported(tiny: Measured) -> None:
    layout = CASES[0].layout
    assert not set(SELECTION_SEEDS) & set(range(1025))

    def validation(learning_rate: float, q: float | None, seed: int) -> float:
        clusters = draw_clusters(TINY, seed)
        pairs = draw_pairs(clusters, layout, 0.0, False, seed)
        start = initial_weights(TINY, seed)
        weights = train(start, clusters, pairs, layout.positives, q, layout.temperature, learning_rate, TINY.steps)
        return nearest_centre_accuracy(weights, clusters.anchors, clusters.validation)

    for loss, q in LOSSES.items():
        means = [np.mean([validation(rate, q, seed) for seed in SELECTION_SEEDS]) for rate in LEARNING_RATES]
        assert tiny.learning_rates[layout][loss] == (LEARNING_RATES[int(np.argmax(means))], pytest.approx(max(means)))


def test_the_same_numbers_and_bytes_again(tiny: Measured, tmp_path: Path) -> None:
    steps = []
    again = measure(TINY, CASES, 2, lambda done, total: steps.append((done, total)))
    assert again == tiny
    assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    write(tiny, tmp_path / "a")
    page, figure = write(again, tmp_path / "b")
    assert sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*.*")) == [
        Path("figures/robustness.svg"), Path("robustness.md"),
    ]  # fmt: skip
    assert page.read_bytes() == (tmp_path / "a" / "robustness.md").read_bytes()
    assert figure.read_bytes() == (tmp_path / "a" / "figures" / "robustness.svg").read_bytes()


def test_more_seeds_change_no_seed(tiny: Measured) -> None:
    more = measure(TINY, CASES[:1], seeds=3)
    for loss, by_rate in more.accuracies[CASES[0]].items():
        for rate, values in by_rate.items():
            assert values[:2] == tiny.accuracies[CASES[0]][loss][rate]


def test_the_page_says_what_it_is_and_how_it_was_made(tiny: Measured) -> None:
    page = render_page(tiny)
    assert "**Synthetic: planted clusters, no video.**" in page
    assert "`wstal-bench robustness --seeds 2 --temperature 0.1`" in page
    for case, accuracies in tiny.accuracies.items():
        assert f"the claim **{judge(accuracies, case.judged).outcome}**" in page
    assert "| chance              | 33.3" in page
    assert "(figures/robustness.svg)" in page
    # a rate at either end of the grid is marked as such, others are not
    ends = (LEARNING_RATES[0], LEARNING_RATES[-1])
    chosen = [rate for by_loss in tiny.learning_rates.values() for rate, _ in by_loss.values()]
    assert page.count("edge of the grid") == sum(rate in ends for rate in chosen)


def test_json_holds_every_accuracy(tiny: Measured) -> None:
    content = json.loads(json.dumps(to_json(tiny)))
    assert content["synthetic"] is True
    assert content["chance"] == pytest.approx(100 / 3)
    for case, stored in zip(CASES, content["cases"], strict=True):
        assert stored["claim"]["outcome"] == judge(tiny.accuracies[case], case.judged).outcome
        for loss, by_rate in tiny.accuracies[case].items():
            assert list(stored["accuracy"][loss].values()) == list(by_rate.values())


def test_the_figure_is_svg_with_every_loss_and_no_date(tiny: Measured) -> None:
    figure = render_figure(tiny)
    root = ElementTree.fromstring(figure)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"date" not in figure
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {*LOSSES, "Planted clusters, no video: 2 seeds, 95 % intervals"} <= texts
    # no page behind it, so that it shows on any ground
    assert b"#ffffff" not in figure


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
    weights = train(start, clusters, pairs, layout.positives, q, layout.temperature, 1e-2, 20)
    assert bool(weights.isfinite().all())
    assert not torch.allclose(weights, start, atol=1e-3)
