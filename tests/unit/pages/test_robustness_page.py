from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from harness.charts.robustness import render_figure
from harness.pages.robustness import render_page, to_json, write
from harness.studies.robustness import LEARNING_RATES, LOSSES, Accuracies, Measured, Problem, measure, planned_cases
from harness.studies.robustness_verdict import CANNOT, CLEAN_BAND, VARIES, Verdict, judge

CASES = planned_cases()


@pytest.fixture(scope="module")
def tiny() -> Measured:
    return measure(Problem(classes=3, anchors=3, held_out=10, steps=2), CASES, seeds=2)


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


def test_the_same_measured_gives_the_same_bytes(tiny: Measured, tmp_path: Path) -> None:
    write(tiny, tmp_path / "a")
    page, figure = write(tiny, tmp_path / "b")
    assert sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*.*")) == [
        Path("figures/robustness.svg"), Path("robustness.md"),
    ]  # fmt: skip
    assert page.read_bytes() == (tmp_path / "a" / "robustness.md").read_bytes()
    assert figure.read_bytes() == (tmp_path / "a" / "figures" / "robustness.svg").read_bytes()


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
    assert [stored["judged"] for stored in content["cases"]] == [[0.4, 0.6], [0.2, 0.4], [0.2, 0.4], [0.2, 0.4]]
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
