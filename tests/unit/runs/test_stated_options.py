"""Options that the data set states: streams, and coarse classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.data.source import DataSource
from harness.data.synthetic import embedded_source
from harness.runs.spec import RunSpec, plan_run
from wstal.errors import UserError


def planned(method: str, overrides: dict[str, Any] | None = None, **facts: Any) -> RunSpec:
    source: DataSource = replace(embedded_source(full_size=False), schedule="none", **facts)
    return plan_run(method, 0, source, overrides or {})


def test_haan_gets_the_data_sets_coarse_classes() -> None:
    coarse = tuple(label // 4 for label in range(20))
    spec = planned("haan", coarse_classes=coarse)
    assert spec.recipe.method.coarse_classes == coarse  # type: ignore[attr-defined]
    assert spec.schedule["method.coarse_classes"] == list(coarse)


def test_a_page_says_that_haan_has_no_coarse_classes() -> None:
    assert planned("haan").schedule["method.coarse_classes"] == []


def test_other_methods_recipes_do_not_have_them() -> None:
    recipe = planned("acmnet", coarse_classes=(0,) * 20).recipe.model_dump_json()
    assert recipe == planned("acmnet").recipe.model_dump_json()


@pytest.mark.parametrize(("widths", "found"), [((100, 28), True), ((128,), False)])
def test_a_page_says_whether_cmcs_finds_static_clips(widths: tuple[int, ...], found: bool) -> None:
    schedule = planned("cmcs", stream_widths=widths).schedule
    assert schedule == {"method.streams": list(widths), "method.static_clips": found}


def test_static_clips_may_be_switched_off() -> None:
    spec = planned("cmcs", {"method.static_clips": False}, stream_widths=(100, 28))
    assert spec.recipe.method.static_clips is False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("coarse", "message"),
    [(["water"], "coarse_classes"), ([0, 2] * 10, r"numbered from 0 without a gap, got \[0, 2\]")],
)
def test_a_wrong_coarse_class_is_an_error(coarse: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        planned("haan", {"method.coarse_classes": coarse})
