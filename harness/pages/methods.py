"""A page for each method: paper, source and deviations, recipe, results, cost, BibTeX."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.comparisons.paper import method_of
from harness.data.held_out import is_held_out
from harness.io.text import grouped
from harness.pages.model import Blocks, Link, Linked, Page, Table
from harness.pages.ranking import METHODS, Standing, method_cell, rankings, schedule_words, standings
from harness.paper.tables import PublishedRow, PublishedTable, published_tables
from harness.records.grouping import by_data
from harness.records.schema import Record
from harness.records.words import SOURCES, bullets, changes, seed_list, widest_average
from harness.registry import load_method, method_entries, method_origin
from harness.seed_statistics import estimate
from harness.studies.cost import CostFile
from wstal.method import Method
from wstal.types import Paper

JOURNALS = ("Transactions", "Journal", "arXiv")
FAMILY = "thumos14"  # whose recipe a page shows
Standings = Mapping[str, Sequence[tuple[Record, Standing]]]


def method_pages(records: Sequence[Record], cost: CostFile | None, names: Sequence[str] | None = None) -> list[Page]:
    """Build the page of each method, after a page that lists them.

    Args:
        records: all stored ones.
        cost: measured cost; None where it was not measured.
        names: of the methods (default: all that are registered).
    """
    found = _standings(records)
    methods = {name: load_method(name) for name in (names if names is not None else method_entries())}
    pages = [_page(name, method, found.get(name, ()), cost) for name, method in methods.items()]
    return [_index(methods), *pages]


def _standings(records: Sequence[Record]) -> Standings:
    """Return where each method stands on each data set, by method."""
    placed: list[tuple[Record, Standing]] = []
    themselves = [record for record in records if record.ablation is None and not is_held_out(record.data.name)]
    for members in grouped(themselves, lambda record: record.data.name).values():
        for section in by_data(members).values():
            for ranked in rankings(section):
                placed += [(ranked[0], one) for one in standings(ranked)]
    return grouped(placed, lambda pair: pair[1].method)


def _index(methods: Mapping[str, type[Method]]) -> Page:
    rows = [
        {
            "method": method_cell(name, method.title, ""),
            "venue": method.paper.venue if method.paper else "",
            "supervision": method.supervision,
            "source": method.source,
            "name on the command line": f"`{name}`",
        }
        for name, method in methods.items()
    ]
    rows.sort(key=lambda row: str(row["method"]).casefold())
    blocks: Blocks = [
        "One page a method; the year leads to the paper. `wstal-bench run --method NAME` trains it.",
        Table("methods", "Methods", rows),
        f"source: {SOURCES}.",
    ]
    return Page(f"{METHODS}/README", "All methods", blocks, tab="Methods")


def _page(name: str, method: type[Method], found: Sequence[tuple[Record, Standing]], cost: CostFile | None) -> Page:
    paper = method.paper
    facts = [
        f"paper: [{paper.title}]({paper.link}), {paper.venue} {paper.year}; {paper.authors}"
        if paper
        else "paper: none",
        f"supervision: {method.supervision}",
        f"source: {method.source}",
        f"code: `{method_origin(name)}`; on the command line `--method {name}`",
        *_published(name),
    ]
    blocks: Blocks = [bullets(facts)]
    if text := (sys.modules[method.__module__].__doc__ or "").partition("\n")[2].strip():
        blocks += ["## Idea and deviations", text]
    blocks += [
        "## Results",
        *_results(name, found),
        "## Recipe",
        *_recipe(method, found),
        "## Cost",
        *_cost(name, cost),
    ]
    if paper:
        blocks += ["## BibTeX", f"```bibtex\n{bibtex(name, paper)}\n```"]
    return Page(f"{METHODS}/{name}", method.title, blocks, tab="Methods")


def _published(name: str) -> Iterator[str]:
    for table in published_tables().values():
        for row in table.rows:
            if method_of(table, row) == name and (number := _average(table, row)):
                yield f"published: {number} in [Table {table.number}](../table_{table.number}.md), {row.label}"


def _average(table: PublishedTable, row: PublishedRow) -> str:
    """Return the last printed number of a row with its column."""
    printed = [column.name for column in table.columns if row.value(column.name) is not None]
    return f"{row.cells[printed[-1]]} ({printed[-1]})" if printed else ""


def _results(name: str, found: Sequence[tuple[Record, Standing]]) -> Iterator[str | Table]:
    if not found:
        yield f"No run of it is stored. `wstal-bench run --method {name} --data DIR` makes one."
        return
    several = len({one.records[0].version for _, one in found}) > 1
    rows = [_result(record, one, several) for record, one in sorted(found, key=lambda pair: pair[0].synthetic)]
    yield Table(
        f"method-{name}",
        "mAP in percent, each data set under its headline evaluator; a rank holds on its data set and version",
        rows,
    )


def _result(record: Record, one: Standing, versioned: bool) -> dict[str, Any]:
    widest = widest_average(record.scored.averages)
    middle = [each.scored.mean_ap["0.5"] for each in one.records if "0.5" in each.scored.mean_ap]
    title = record.data.title
    if record.synthetic and "synthetic" not in title.lower():
        title = f"{title} (synthetic)"
    return {
        "data set": Linked((Link(title, f"../{record.data.name}.md"),)),
        **({"options": changes(one.records[0].overrides)} if one.records[0].overrides else {}),
        **({"version": one.records[0].version} if versioned else {}),
        "rank": one.rank,
        "average": one.mean,
        "over": widest,
        "mAP@0.5": estimate(middle, len(one.records)),
        "seeds": seed_list(one.records),
        "evaluator": record.headline,
        "schedule": schedule_words(one.records[0]),
    }


def _recipe(method: type[Method], found: Sequence[tuple[Record, Standing]]) -> Iterator[str]:
    yield f"Defaults on {FAMILY}; `--set NAME=VALUE` changes one."
    recipe = method.recipe(FAMILY).model_dump(mode="json")
    lines = [f"{key} = {value}" for part in ("method", "train") for key, value in _flat(recipe[part], part)]
    yield "```\n" + "\n".join(lines) + "\n```"
    runs = [one.records[0] for _, one in found]
    schedules = {(run.data.title, run.version): run.schedule for run in runs if run.schedule}
    several = len({run.version for run in runs}) > 1
    if schedules:
        yield "Data sets whose schedule departs from it:"
        yield bullets(
            f"{title}{f' ({version})' if several else ''}: {changes(schedule)}"
            for (title, version), schedule in schedules.items()
        )


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}.{key}")
        else:
            yield f"{prefix}.{key}", value


def _cost(name: str, cost: CostFile | None) -> Iterator[str | Table]:
    measured = cost.methods.get(name) if cost else None
    if measured is None:
        yield f"Not measured; `wstal-bench paper cost --method {name}` does."
        return
    rows = [
        {
            "step": f"{row.stage}, {row.dataset}",
            "T": row.length,
            "parameters (M)": f"{row.parameters / 1e6:.1f}",
            "multiply-adds (G)": f"{row.macs / 1e9:.2f}",
            "peak memory (MB)": "" if row.peak_mb is None else f"{row.peak_mb:.0f}",
            "time (ms)": f"{row.ms:.0f}",
        }
        for row in measured.rows
    ]
    cpu, threads = measured.environment["cpu"], measured.environment["threads"]
    yield f"A step at batch 1 on {cpu}, {threads} threads ([all methods](../table_IX.md))."
    yield Table(None, "Cost of a step", rows)


def bibtex(name: str, paper: Paper) -> str:
    """Return a paper's entry of a bibliography.

    Args:
        name: of the method, for the key.
        paper: the publication.
    """
    authors = paper.authors.split(", ")
    article = any(word in paper.venue for word in JOURNALS)
    key = re.sub(r"\W", "", authors[0].split()[-1].lower()) + f"{paper.year}{re.sub(r'[^a-z0-9]', '', name)}"
    fields = {
        "title": f"{{{paper.title}}}",
        "author": " and ".join(authors),
        "journal" if article else "booktitle": paper.venue,
        "year": paper.year,
        "url": paper.link,
    }
    lines = [f"  {field} = {{{value}}}," for field, value in fields.items()]
    return "\n".join([f"@{'article' if article else 'inproceedings'}{{{key},", *lines, "}"])
