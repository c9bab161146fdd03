"""Ablation pages: rows find their records, differences are paired, verdicts follow from intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from scipy import stats

from harness.comparisons.plan_rows import Difference, difference, rows_of
from harness.pages.ablations import ablation_page
from harness.pages.formats import markdown_page
from harness.pages.interpretations import interpretations_page
from harness.records.schema import Record
from harness.runs.plans import find_plan
from tests.helpers.pages import record, render
from tests.helpers.records import unchecked
from wstal.errors import UserError

FULL = {"rmgcl": True, "gks": True, "gka": True, "pseudo": True, "summary": {"kind": "codewords", "count": 40}}


def run(method: str, seed: int, average: float, **changes: Any) -> dict[str, Any]:
    """A record of a row: `changes` are the row's options of the method."""
    options = FULL | changes if method == "rmgcl-gksa" else {}
    made = record(method, seed, average, recipe={"method": options, "train": {"epochs": 3}})
    made["ablation"] = {
        "schedule": {"train.epochs": 3},
        "row": {f"method.{name}": value for name, value in changes.items()},
    }
    made["metrics"]["anet"]["averages"] = {"0.1:0.7": average}
    return made


def typed(records: Sequence[dict[str, Any]]) -> list[Record]:
    return [unchecked(record) for record in records]


WITHOUT = {"gks": False, "gka": False, "pseudo": False}


def test_each_record_is_in_its_own_row() -> None:
    records = [
        run("acmnet", 0, 20.0), run("rmgcl-gksa", 0, 24.0), run("rmgcl-gksa", 0, 21.0, **WITHOUT),
        run("rmgcl-gksa", 1, 23.0, pseudo=False),
    ]  # fmt: skip
    found = rows_of(find_plan("IV"), typed(records))
    assert {row: [r.scored.averages["0.1:0.7"] for r in members] for row, members in found.items()} == {
        "baseline": [20.0], "rmgcl": [21.0], "gka-without-gks": [], "pseudo-without-gks": [], "no-pseudo": [23.0],
        "full": [24.0],
    }  # fmt: skip
    assert [len(members) for members in rows_of(find_plan("VII"), typed(records)).values()] == [0, 0, 1, 0, 0, 0]


def test_a_methods_own_runs_are_no_baseline_of_one_that_was_trained_otherwise() -> None:
    """The baseline is trained as the paper's method; ACM-Net's own schedule has five times the epochs on I3D."""
    themselves = [run("acmnet", seed, 20.0) | {"ablation": None} for seed in range(2)]
    whole = run("rmgcl-gksa", 0, 24.0) | {"ablation": None}
    assert len(rows_of(find_plan("IV"), typed([*themselves, whole]))["baseline"]) == 2
    # a decay after the last epoch never comes
    whole["recipe"] = whole["recipe"] | {"train": {"epochs": 3, "decay_every": 3}}
    assert len(rows_of(find_plan("IV"), typed([*themselves, whole]))["baseline"]) == 2
    whole["recipe"] = whole["recipe"] | {"train": {"epochs": 3, "decay_every": 2}}
    assert rows_of(find_plan("IV"), typed([*themselves, whole]))["baseline"] == []


def test_a_departure_that_no_row_has_is_in_no_row() -> None:
    assert not any(rows_of(find_plan("IV"), typed([run("rmgcl-gksa", 0, 24.0, fusion_width=7)])).values())


def test_two_recipes_in_one_row_are_refused() -> None:
    other = run("rmgcl-gksa", 1, 24.0)
    other["recipe"]["train"]["epochs"] = 4
    with pytest.raises(UserError, match="of 2 recipes"):
        rows_of(find_plan("IV"), typed([run("rmgcl-gksa", 0, 24.0), other]))


def test_differences_are_paired_by_seed() -> None:
    better = [run("rmgcl-gksa", seed, value) for seed, value in ((0, 21.0), (1, 25.0), (2, 30.0), (7, 99.0))]
    worse = [run("acmnet", seed, value) for seed, value in ((2, 27.0), (1, 23.0), (0, 20.0), (8, 9.0))]
    found = difference(typed(better), typed(worse))
    assert found is not None
    assert found.seeds == 3
    low, high = stats.t.interval(0.95, 2, loc=2, scale=stats.sem([1, 2, 3]))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.p == 2 / 8
    assert difference(typed(better), []) is None


@pytest.mark.parametrize(
    ("mean", "adjusted", "verdict"),
    [
        (1.0, 0.049, "holds"),
        (-1.0, 0.049, "reversed"),
        (0.4, 0.05, "not resolved"),
        (-0.5, 0.4, "not resolved"),
    ],
)
def test_verdicts(mean: float, adjusted: float, verdict: str) -> None:
    assert Difference(6, mean, 0.5, 0.03, 0.01).verdict(adjusted) == verdict
    assert Difference(5, mean, 0.5, 0.06, 0.01).verdict(adjusted) == "too few seeds"


def test_page_has_measured_beside_printed_and_says_what_was_not_run() -> None:
    records = [
        run(method, seed, value + seed)
        for method, value in (("acmnet", 20.0), ("rmgcl-gksa", 24.0))
        for seed in range(6)
    ]
    page = markdown_page(ablation_page(typed(records)))
    table = page[page.index("## Table IV") : page.index("## Not run")]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert lines[2] == ["", "", "", "", "6 (0-5)", "", "22.5 ± 2.0", "", "22.5 ± 2.0", "68.9", "55.0", "42.6"]
    assert lines[3][4:9] == ["none", "", "not run", "not run", "not run"]
    whole = next(line for line in lines if line[0] == "the whole helps the baseline")
    # one comparison of the table was run, so Holm leaves its p: 2 of 2^6 sign patterns
    assert whole[1:] == ["+4.2", "+4.0 ± 0.0", "6", "0.031", "0.031", "below 0.001", "holds"]
    assert next(line for line in lines if line[0] == "pseudo labels help")[2] == "not run"


def test_few_seeds_have_no_p() -> None:
    records = [
        run(method, seed, value + seed)
        for method, value in (("acmnet", 20.0), ("rmgcl-gksa", 24.0))
        for seed in range(3)
    ]
    page = markdown_page(ablation_page(typed(records)))
    assert "needs 6 seeds" in page
    assert "too few seeds" in page
    assert "| holds" not in page


def test_synthetic_pages_have_neither_verdict_nor_printed_values() -> None:
    records = [
        run(method, seed, value + seed) | {"synthetic": True}
        for method, value in (("acmnet", 20.0), ("rmgcl-gksa", 24.0))
        for seed in range(6)
    ]
    pages = render(records)
    page = pages["leaderboards/data-ablations.md"]
    assert "Synthetic data" in page
    assert "42.6" not in page
    assert "holds" not in page
    assert "interpretations.md" not in pages


def test_methods_themselves_stand_in_the_rows_that_are_just_that() -> None:
    themselves = [run("acmnet", seed, 20.0) | {"ablation": None} for seed in range(2)]
    part = run("rmgcl-gksa", 0, 21.0, **WITHOUT)
    part["ablation"]["schedule"] = {}
    pages = render([*themselves, part])
    assert "| 2 (0-1) " in pages["leaderboards/data-ablations.md"]
    assert "20.0 ± 0.0" in pages["leaderboards/data.md"]
    assert "21.0" not in pages["leaderboards/data.md"]


def test_where_a_methods_ablations_have_another_schedule_its_own_runs_are_other_experiments() -> None:
    """Other methods' runs stay: of ACM-Net's schedule for ablations nothing follows for that of RMGCL+GKSA."""
    apart = run("acmnet", 0, 20.0)
    apart["ablation"] = {"schedule": {"train.epochs": 3}, "row": {}}
    itself = [run("acmnet", seed, 30.0) | {"ablation": None} for seed in range(2)]
    whole = [run("rmgcl-gksa", seed, 24.0) | {"ablation": None} for seed in range(3)]
    page = render([apart, *itself, *whole])["leaderboards/data-ablations.md"]
    assert "| 1 (0)" in page
    assert "| 2 (0-1)" not in page
    assert "| 3 (0-2)" in page


def test_the_newest_version_comes_first_and_a_table_that_adds_no_row_is_only_named() -> None:
    """Table VI has nothing but the whole method, which Table IV has already."""
    records = [run("rmgcl-gksa", 0, 24.0), run("rmgcl-gksa", 0, 74.0)]
    for made, version in zip(records, ("0.9.0", "0.10.0"), strict=True):
        made["environment"] = made["environment"] | {"wstal-bench": version}
    page = markdown_page(ablation_page(typed(records)))
    assert page.index("# Version 0.10.0") < page.index("74.0") < page.index("# Version 0.9.0") < page.index("24.0")
    assert page.count("## Table IV") == 2
    assert page.count("- Table VI: ") == 2
    assert "## Table VI" not in page
    added = run("rmgcl-gksa", 0, 23.0, summary={"kind": "k_means", "count": 40})
    added["ablation"]["row"] = {"method.summary.kind": "k_means"}
    assert "## Table VI" in markdown_page(ablation_page(typed([run("rmgcl-gksa", 0, 24.0), added])))


def test_other_overrides_are_another_section() -> None:
    records = [run("rmgcl-gksa", 0, 24.0), run("rmgcl-gksa", 0, 25.0) | {"overrides": {"train.epochs": 9}}]
    page = markdown_page(ablation_page(typed(records)))
    headings = [line for line in page.splitlines() if line.startswith("# Version ")]
    assert ["options: train.epochs=9" in heading for heading in headings] == [False, True]
    assert not any(", data " in heading for heading in headings)
    first, second = map(page.index, headings)
    assert first < page.index("24.0") < second < page.index("25.0")


def test_other_data_or_another_version_is_another_section_never_another_seed() -> None:
    other_data, other_version = run("rmgcl-gksa", 1, 54.0), run("rmgcl-gksa", 1, 74.0)
    other_data["data"] = other_data["data"] | {"labels": "annotations"}
    other_version["environment"] = other_version["environment"] | {"wstal-bench": "9"}
    page = markdown_page(ablation_page(typed([run("rmgcl-gksa", 0, 24.0), other_data, other_version])))
    assert page.count("## Table IV") == 3
    assert "±" not in page.split("## Table IV")[1].split("## Not run")[0].replace("95 %", "")


def test_two_records_of_one_seed_are_refused() -> None:
    with pytest.raises(UserError, match="2 records of 1 recipes and 1 seeds"):
        rows_of(find_plan("IV"), typed([run("rmgcl-gksa", 0, 24.0), run("rmgcl-gksa", 0, 25.0)]))


def test_the_fill_of_the_memory_is_shown() -> None:
    record = run("rmgcl-gksa", 0, 24.0, memory={"length": 100})
    record["ablation"]["row"] = {}
    record["training"]["diagnostics"] = {"memory_fill": [50, 100, 0, 100]}
    line = next(line for line in markdown_page(ablation_page(typed([record]))).splitlines() if line.startswith("| x "))
    full = next(
        line
        for line in markdown_page(ablation_page(typed([record]))).splitlines()
        if line.replace(" ", "").startswith("|x|x|x|x|1(0)|")
    )
    assert "| 50 " in full
    assert "not run" in line


def test_p_is_corrected_for_the_comparisons_of_its_table() -> None:
    records = [
        *(run("acmnet", seed, 20.0) for seed in range(6)),
        *(run("rmgcl-gksa", seed, 21.0 + seed, **WITHOUT) for seed in range(6)),
        *(run("rmgcl-gksa", seed, 24.0) for seed in range(6)),
    ]
    page = markdown_page(ablation_page(typed(records)))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    p = {line[0]: line[4:7] for line in lines if len(line) == 8}
    # of Table IV two were run, each with p = 2/64 = 0.03125: Holm doubles the smaller and lifts the other to it. The
    # t-test of 1, 2, ..., 6: t = 3.5 / (1.8708 / sqrt 6) = 4.58, p = 0.0059; that of equal differences has p = 0
    assert p["RMGCL helps the baseline"] == ["0.031", "0.062", "0.006"]
    assert p["the whole helps the baseline"] == ["0.031", "0.062", "below 0.001"]
    assert p["pseudo labels help"][:1] == [""]


def test_readings_are_changes_against_the_defaults() -> None:
    records = [run("rmgcl-gksa", seed, 24.0 + seed) for seed in range(2)]
    # a seed that the defaults lack makes no pair
    moved = [run("rmgcl-gksa", seed, 23.0 + seed, fusion_width=1024) for seed in range(3)]
    baseline = [run("acmnet", seed, 20.0 + 3 * seed) for seed in range(2)]
    rendered = interpretations_page(typed([*records, *moved, *baseline]))
    assert rendered is not None
    page = markdown_page(rendered)
    assert "Computed with" in page
    assert "- training videos: " in page
    default, wide = (
        [cell.strip() for cell in next(line for line in page.splitlines() if name in line).strip("|").split("|")][2:]
        for name in ("| the defaults", "1,024 wide")
    )
    # two differences 2a apart have a t-interval of 12.71 a: 4 and 2, 3 and 1
    assert default == ["24.5 ± 6.4", "+3.0 ± 12.7", "2"]
    assert wide == ["-1.0 ± 0.0", "+2.0 ± 12.7", "2"]
    assert "not run" not in page
    absent = (
        next(line for line in page.splitlines() if line.startswith("Not run: ")).removeprefix("Not run: ").split(", ")
    )
    assert len(absent) == len(find_plan("interpretations").rows) - 2
    assert interpretations_page(typed(records)) is None
    assert interpretations_page(typed([record | {"synthetic": True} for record in [*records, *moved]])) is None
