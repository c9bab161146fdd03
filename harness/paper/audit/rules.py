"""Table of the rules, and their findings in the paper. No rule names a row: all are run over all tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from harness.paper.audit.averages import averages, bounds
from harness.paper.audit.cells import alike, bold, recurring, rising
from harness.paper.audit.costs import costs, modelled
from harness.paper.audit.intervals import Outcome, Paper, Tally
from harness.paper.audit.quotations import alike_features, quoted
from harness.paper.audit.text import citations, claimed, venues
from harness.paper.tables import claims, published_tables, references, source_rows

RULES: dict[str, Callable[[Paper], Iterator[Outcome]]] = {
    "averages": averages,
    "bounds of averages": bounds,
    "printed more than once": recurring,
    "rows that are alike": alike,
    "rows against their sources": quoted,
    "features of a group": alike_features,
    "bold": bold,
    "mAP over tIoU": rising,
    "costs": costs,
    "costs against the model": modelled,
    "claimed gains": claimed,
    "citations": citations,
    "venues": venues,
}
"""By name; a docstring says what the rule requires, and the page repeats it."""


@cache
def the_paper() -> Paper:
    """Return the published tables, claims and references, and rows of the works that the tables quote."""
    return Paper(tuple(published_tables().values()), claims(), references(), source_rows())


def tallies(paper: Paper) -> dict[str, Tally]:
    """Run every rule; return the tallies by the rule's name."""
    return {name: Tally.of(list(rule(paper))) for name, rule in RULES.items()}
