from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.charts.figure import Figure
from harness.pages.formats import files, markdown_page
from harness.pages.robustness import robustness_page
from harness.pages.site import drifted, read_results, render, write
from harness.studies.planted_clusters import Problem
from harness.studies.robustness import LEARNING_RATES, LOSSES, Accuracies, RobustnessFile, measure, planned_cases
from harness.studies.robustness_verdict import CANNOT, CLEAN_BAND, VARIES, RobustnessVerdict, judge, verdicts
from wstal.errors import UserError

CASES = planned_cases()


@pytest.fixture(scope="module")
def tiny() -> RobustnessFile:
    return measure(Problem(classes=3, anchors=3, held_out=10, steps=2), CASES, seeds=2)


def frame(**losses: tuple[float, float, float]) -> Accuracies:
    """Accuracies at 0, 0.4 and 0.6 with a spread of +-0.1 over three seeds, the same for all losses of one seed."""
    named = {"InfoNCE": losses["nce"], "q = 0.2": losses.get("q02", losses["nce"]), "q = 1": losses["q1"]}
    rates = (0.0, 0.4, 0.6)
    return {
        loss: {rate: [value + 0.1 * seed for seed in (-1, 0, 1)] for rate, value in zip(rates, values, strict=True)}
        for loss, values in named.items()
    }


def verdict(**losses: tuple[float, float, float]) -> RobustnessVerdict:
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
    assert str(got.table[0]["InfoNCE less q = 1"]) == f"1.7 ± {half:.1f}"


def test_a_verdict_says_what_it_rests_on() -> None:
    got = verdict(nce=(90, 80, 70), q02=(92, 84, 60), q1=(80, 75, 65))
    assert got.reasons == (
        "q = 1 loses less than InfoNCE at noise 0.4, 0.6.",
        "q = 1 is less accurate than InfoNCE at noise 0, 0.4, 0.6.",
        "q = 1 has less to lose: 80.0 % without noise, InfoNCE 90.0 %.",
        "At noise 0.4, what q = 0.2 loses is between both (told apart from InfoNCE and q = 1).",
        "At noise 0.6, what q = 0.2 loses is more than both (told apart from InfoNCE and q = 1).",
    )
    assert tuple({column: str(cell) for column, cell in row.items()} for row in got.table) == (
        {"points lost": "to noise 0.4", "InfoNCE": "10.0 ± 0.0", "q = 0.2": "8.0 ± 0.0", "q = 1": "5.0 ± 0.0",
         "InfoNCE less q = 1": "5.0 ± 0.0"},
        {"points lost": "to noise 0.6", "InfoNCE": "20.0 ± 0.0", "q = 0.2": "32.0 ± 0.0", "q = 1": "15.0 ± 0.0",
         "InfoNCE less q = 1": "5.0 ± 0.0"},
    )  # fmt: skip
    less = verdict(nce=(90, 80, 70), q02=(90, 89, 70), q1=(90, 85, 85)).reasons
    assert "At noise 0.4, what q = 0.2 loses is less than both (told apart from InfoNCE and q = 1)." in less
    assert "q = 1 is more accurate than InfoNCE at noise 0.4, 0.6." in less


def test_the_stored_numbers_give_the_same_page_again(tiny: RobustnessFile, tmp_path: Path) -> None:
    path = tmp_path / RobustnessFile.FILE
    tiny.store(path)
    stored = RobustnessFile.load(path)
    assert stored == tiny
    assert files([robustness_page(stored)]) == files([robustness_page(tiny)])


def test_the_page_is_one_of_the_site_and_is_checked_with_it(tiny: RobustnessFile, tmp_path: Path) -> None:
    assert "robustness.md" not in render(read_results(tmp_path))
    tiny.store(tmp_path / RobustnessFile.FILE)
    rendered = render(read_results(tmp_path))
    write(rendered, tmp_path)
    assert drifted(rendered, tmp_path) == []
    assert "(../robustness.md)" in rendered["leaderboards/README.md"].split("## Ablations")[1]
    assert {path for path in rendered if "robustness" in path} == {
        "robustness.md", "leaderboards/figures/robustness.svg",
        *(f"leaderboards/tables/robustness-{name}.{suffix}" for suffix in ("csv", "tex") for name in (
            "learning-rates", *(f"{case.name}{lost}" for case in CASES for lost in ("", "-lost")))),
    }  # fmt: skip
    for name in ("robustness.md", "leaderboards/figures/robustness.svg"):
        (tmp_path / name).write_text("another")
    assert drifted(rendered, tmp_path) == ["leaderboards/figures/robustness.svg", "robustness.md"]
    (tmp_path / RobustnessFile.FILE).write_text("{")
    damaged = read_results(tmp_path)
    assert [RobustnessFile.FILE in message for message in damaged.refused] == [True]
    assert "robustness.md" in drifted(render(damaged), tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["schema"], 2, "`schema`"),
        (["synthetic"], False, "`synthetic`"),
        (["untrained"], [30.0], "`untrained`"),
        (["problem", "more"], 1, "`problem.more`"),
        (["results", 1, "case", "layout", "temperature"], -0.1, "`results.1.case.layout.temperature`"),
        (["results", 0, "accuracies", "q = 1", "0.4"], [50.0, 100.1], "`results.0.accuracies.q = 1.0.4.1`"),
        (["results", 0, "accuracies", "q = 1", "0.4"], [50.0], "'positives', q = 1: not 2 values"),
        (["results", 0, "accuracies", "q = 1"], {"0.0": [50.0, 50.0]}, "'positives', q = 1: not 2 values"),
        (["results", 0, "accuracies"], {}, "'positives' has not one entry a loss"),
    ],
)
def test_a_damaged_file_is_refused_by_field(
    tiny: RobustnessFile, tmp_path: Path, place: list[Any], value: Any, message: str
) -> None:
    path = tmp_path / RobustnessFile.FILE
    content = part = tiny.to_json()
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        RobustnessFile.load(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_the_page_says_what_it_is_and_how_it_was_made(tiny: RobustnessFile) -> None:
    page = markdown_page(robustness_page(tiny))
    assert "**Synthetic: planted clusters, no video.**" in page
    assert "`wstal-bench paper robustness --seeds 2 --temperature 0.1`" in page
    for result in tiny.results:
        outcome = judge(result.accuracies, result.case.judged).outcome
        assert f"- {result.case.title}, tau = {result.case.layout.temperature:g}: the claim **{outcome}**" in page
    assert "| chance              | 33.3" in page
    assert "(leaderboards/figures/robustness.svg)" in page
    # a rate at either end of the grid is marked as such, others are not
    ends = (LEARNING_RATES[0], LEARNING_RATES[-1])
    by_layout = {result.case.layout: result.learning_rates for result in tiny.results}
    chosen = [rate for by_loss in by_layout.values() for rate, _ in by_loss.values()]
    assert page.count("edge of the grid") == sum(rate in ends for rate in chosen)


def test_the_file_holds_every_accuracy(tiny: RobustnessFile) -> None:
    content = json.loads(json.dumps(tiny.to_json()))
    assert content["synthetic"] is True
    assert content["problem"]["classes"] == 3
    assert [result.case.judged for result in tiny.results] == [(0.4, 0.6), (0.2, 0.4), (0.2, 0.4), (0.2, 0.4)]
    assert list(verdicts(tiny)) == [case.name for case in CASES]
    for result, stored in zip(tiny.results, content["results"], strict=True):
        assert verdicts(tiny)[result.case.name] == judge(result.accuracies, result.case.judged)
        for loss, by_rate in result.accuracies.items():
            assert list(stored["accuracies"][loss].values()) == list(by_rate.values())


def test_the_figure_is_svg_with_every_loss_and_no_date(tiny: RobustnessFile) -> None:
    (figure,) = (block for block in robustness_page(tiny).blocks if isinstance(block, Figure))
    root = ElementTree.fromstring(figure.svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "date" not in figure.svg
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {*LOSSES, "Synthetic data", "Planted clusters, no video: 2 seeds, 95 % intervals"} <= texts
    # no ground of its own, so that it reads on any
    assert "#ffffff" not in figure.svg
