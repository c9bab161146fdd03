"""Ablation plans: every row resolves, printed values are the paper's, mistakes are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from harness.data.synthetic import embedded_source
from harness.runs.plans import Plan, find_row, paper_tables, plans
from harness.runs.spec import plan_run
from wstal.errors import UserError

ROWS = [(name, row) for name, plan in plans().items() for row in plan.rows]


@pytest.fixture(scope="module")
def source() -> Any:
    return embedded_source(full_size=False)


def test_the_papers_tables_are_there_in_order() -> None:
    assert paper_tables() == ["table_IV", "table_V", "table_VI", "table_VII", "table_VIII", "figure_5"]
    counts = {name: len(plans()[name].rows) for name in paper_tables()}
    assert counts == {"table_IV": 6, "table_V": 4, "table_VI": 6, "table_VII": 6, "table_VIII": 8, "figure_5": 8}


def test_every_row_resolves_and_no_two_rows_of_a_table_are_one_run(source: Any) -> None:
    for name, plan in plans().items():
        runs = [plan_run(row.method, 0, source, {}, row).id for row in plan.rows]
        assert len(set(runs)) == len(runs), name


def test_rows_that_tables_share_are_one_run(source: Any) -> None:
    def run(reference: str) -> str:
        row = find_row(reference)
        return plan_run(row.method, 0, source, {}, row).id

    assert run("IV/baseline") == run("V/baseline")
    assert run("IV/rmgcl") == run("V/robust")
    assert run("IV/full") == run("VI/codewords") == run("VII/40") == run("figure_5/500")
    assert run("IV/full") == run("interpretations/default")
    assert run("IV/pseudo-without-gks") == run("figure_5/500-without-gks")


def test_a_plan_is_found_by_its_earlier_name_which_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_row("readings/softmax") == find_row("interpretations/softmax")
    assert capsys.readouterr().err == "The plan `readings` is now called `interpretations`.\n"


def test_a_baseline_is_trained_by_the_schedule_of_what_it_is_compared_with() -> None:
    """ACM-Net's own 1,000 epochs beside ours' 200 would compare schedules."""
    source = replace(embedded_source(full_size=False), name="thumos14", schedule="thumos14", family="thumos14")
    baseline, full = (plan_run(row.method, 0, source, {}, row) for row in map(find_row, ("IV/baseline", "IV/full")))
    assert baseline.recipe.train == full.recipe.train
    assert baseline.recipe.train.epochs == 200
    assert plan_run("acmnet", 0, source, {}).recipe.train.epochs == 1000


def test_overrides_come_after_the_row(source: Any) -> None:
    spec = plan_run("rmgcl-gksa", 0, source, {"method.summary.count": 7}, find_row("VII/10"))
    assert spec.recipe.method.summary.count == 7
    assert spec.overrides == {"method.summary.count": 7}
    assert spec.ablation is not None
    assert spec.ablation["row"] == {"method.summary.count": 10}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("XIII/full", "Unknown table 'XIII'"),
        ("IV/ful", r"Unknown row 'ful'.*full"),
        ("IV", "TABLE/ROW"),
        ("", "TABLE/ROW"),
    ],
)
def test_unknown_rows_are_named(reference: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_row(reference)


def plan(**changes: Any) -> dict[str, Any]:
    row = {"id": "a", "cells": ["A"]}
    return {"title": "T", "source": "S", "seeds": [0], "columns": ["c"], "mAP": ["0.1"], "rows": [row]} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [{"id": "a", "cells": ["A"]}] * 2}, "one id"),
        ({"rows": [{"id": "a", "cells": ["A", "B"]}]}, "2 cells for 1 columns"),
        ({"claims": [{"text": "t", "better": "a", "worse": "b"}]}, "no row b"),
        ({"reference": "b"}, "no row b"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_inconsistent_plans_are_refused(changes: dict[str, Any], message: str) -> None:
    Plan.model_validate(plan())
    with pytest.raises(ValidationError, match=message):
        Plan.model_validate(plan(**changes))
