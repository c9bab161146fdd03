"""Small published tables for the audit's tests, and numbers printed as people round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from harness.paper.audit.intervals import Finding, Outcome, Paper, Tally
from harness.paper.tables import PublishedTable

AVERAGES = {"AVG (0.1:0.3)": "0.1:0.1:0.3", "AVG (0.3:0.5)": "0.3:0.1:0.5", "AVG": "0.1:0.1:0.5"}
thousandths = st.integers(0, 100_000).map(lambda number: Fraction(number, 1000))


def table(columns: list[str], rows: dict[str, list[str]], **changes: Any) -> PublishedTable:
    """A table of THUMOS14; `changes` under a row's id are of that row, the others of the table."""
    of_rows = {name: changes.pop(name, {}) for name in rows}
    return PublishedTable.model_validate(
        {
            "number": "I",
            "title": "T",
            "caption": "C",
            "dataset": "thumos14",
            "source": "S",
            "unit": "%",
            "protocol": "unstated",
            "selection": "unstated",
            "labels": ["Method"],
            "columns": [{"name": name, "mean_of": AVERAGES.get(name)} for name in columns],
            "rows": [{"id": name, "labels": [name], "cells": cells} | of_rows[name] for name, cells in rows.items()],
        }
        | changes
    )


def tallied(rule: Callable[[Paper], Iterator[Outcome]], paper: Paper) -> Tally:
    return Tally.of(list(rule(paper)))


def only(tally: Tally) -> Finding:
    assert len(tally.findings) == 1, tally.findings
    return tally.findings[0]


def half_up(number: Fraction) -> str:
    """With one decimal, as people round."""
    tenths = int(number * 10 + Fraction(1, 2))
    return f"{tenths // 10}.{tenths % 10}"
