"""All pages and files that are rendered from stored results: the same results give the same bytes."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from harness.comparisons.paper import compare
from harness.data.held_out import is_held_out
from harness.io.atomic import atomic_write
from harness.io.locks import hold
from harness.io.text import grouped
from harness.pages.ablations import ablation_page
from harness.pages.audit import audit_page
from harness.pages.cost import cost_page
from harness.pages.dataset import dataset_page
from harness.pages.formats import files
from harness.pages.html import html_report
from harness.pages.interpretations import interpretations_page
from harness.pages.model import Blocks, Page, Table
from harness.pages.observations import observations_page
from harness.pages.paper_tables import table_page
from harness.pages.readme import fill_readme, read_readme
from harness.pages.released import rescored_page
from harness.pages.reliability import reliability_page
from harness.pages.robustness import robustness_page
from harness.paper.tables import published_tables
from harness.records.collection import add_records
from harness.records.grouping import average, by_method, has_ablations
from harness.records.reading import list_records
from harness.records.schema import Record
from harness.records.words import bullets, seed_list, widest_average
from harness.seed_statistics import estimate
from harness.studies.cost import CostFile
from harness.studies.released import FOLDER as RESCORED
from harness.studies.released import Rescored, load_rescored
from harness.studies.reliability import ReliabilityFile
from harness.studies.robustness import RobustnessFile
from harness.studies.stored import StudyFile
from wstal.errors import UserError

REPORT = "report.html"
README = "../README.md"
SUFFIXES = (".md", ".csv", ".tex", ".svg")
Study = TypeVar("Study", bound=StudyFile)


@dataclass(frozen=True)
class Results:
    """Stored content of one results folder.

    Args:
        records: of runs, by data set, method and id.
        rescored: detections by their authors.
        cost: measured cost of methods; None where it was not measured.
        reliability: figures of the stress tests; None where they were not run.
        robustness: accuracies of the robustness study; None where it was not run.
        refused: a message for each file that cannot be used.
        readme: text beside the folder that quotes results between markers; empty where there is none.
    """

    records: Sequence[Record]
    rescored: Sequence[Rescored] = ()
    cost: CostFile | None = None
    reliability: ReliabilityFile | None = None
    robustness: RobustnessFile | None = None
    refused: Sequence[str] = ()
    readme: str = ""


def read_results(folder: Path) -> Results:
    """Read a results folder; damaged records and those of a newer version are refused by place, the rest is read.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder. Name the one that holds records/ with --results.")
    records, bad_records = list_records(folder / "records", ranked=True)
    rescored, bad_rescored = load_rescored(folder / RESCORED)
    refused = [message for _, message in [*bad_records, *bad_rescored]]

    def study(file: type[Study]) -> Study | None:
        try:
            return file.load(path) if (path := folder / file.FILE).exists() else None
        except UserError as error:
            refused.append(str(error))
            return None

    studies = study(CostFile), study(ReliabilityFile), study(RobustnessFile)
    return Results(records, rescored, *studies, refused, read_readme(folder / README))


def render(results: Results) -> dict[str, str]:
    """Return every rendered file by path below the results folder."""
    made = pages(results)
    quoted = {README: fill_readme(results.readme, made)} if results.readme else {}
    return files(made) | {REPORT: html_report(made)} | quoted


def pages(results: Results) -> list[Page]:
    """Build all pages: the entry page, the published tables with verdicts, two pages for each data set (its methods,
    its ablations), the interpretations, rescored detections, the audit and the stress tests.
    """
    by_dataset = grouped(results.records, lambda record: record.data.name)
    real: list[Page] = []
    synthetic: list[Page] = []
    for members in by_dataset.values():
        of_data = synthetic if members[0].synthetic else real
        if themselves := [record for record in members if record.ablation is None]:
            of_data.append(dataset_page(themselves))
        if has_ablations(members):
            of_data.append(ablation_page(members))
        if looks := observations_page(members):
            of_data.append(looks)
    if interpretations := interpretations_page(results.records):
        real.append(interpretations)
    if results.rescored:
        real.append(rescored_page(results.rescored))
    if results.robustness:
        synthetic.append(robustness_page(results.robustness))
    tables = [
        table_page(table, compare(table, results.records, results.rescored))
        if table.dataset
        else cost_page(table, results.cost)
        for table in published_tables().values()
    ]
    sections = {
        "The paper's tables, published beside measured": [*tables, audit_page()],
        "Measured on real video": real,
        "Synthetic": synthetic,
        "The harness": [reliability_page(results.reliability)] if results.reliability else [],
    }
    return [_entry_page(sections, _overview(by_dataset)), *(page for members in sections.values() for page in members)]


def write(rendered: dict[str, str], results: Path, keep_stale: bool = False) -> None:
    """Write files below `results`, each whole or not at all, and remove those that belong to no page any more.

    Args:
        rendered: by `render`.
        results: the folder.
        keep_stale: leave them, because some record could not be read.
    """
    for name, stale in _rendered(results).items():
        if name not in rendered and not keep_stale:
            stale.unlink()
    for name, text in rendered.items():
        atomic_write(results / name, text.encode())


def drifted(rendered: dict[str, str], results: Path) -> list[str]:
    """Return the names of files below `results` that differ from `rendered`, are absent, or belong to no page.

    Args:
        rendered: by `render`.
        results: the folder.
    """
    paths = {name: path for name in rendered if (path := results / name).exists()}
    stored = {name: path.read_bytes() for name, path in (paths | _rendered(results)).items()}
    wanted = {name: text.encode() for name, text in rendered.items()}
    return sorted(name for name in wanted.keys() | stored.keys() if wanted.get(name) != stored.get(name))


def _rendered(results: Path) -> dict[str, Path]:
    """Return the files below `results` that `render` makes, by path."""
    paths = [path for path in results.glob("leaderboards/**/*") if path.suffix in SUFFIXES]
    # readings.md is the name that interpretations.md had
    names = ("interpretations.md", "readings.md", "audit.md", "reliability.md", "robustness.md", REPORT)
    paths += [path for name in names if (path := results / name).exists()]
    return {path.relative_to(results).as_posix(): path for path in paths}


def _overview(by_dataset: Mapping[str, list[Record]]) -> list[dict[str, Any]]:
    """Return the headline of every method on real test videos, by its own options."""
    return [
        {
            "data set": group[0].data.title,
            "method": label,
            "supervision": group[0].supervision,
            "seeds": seed_list(group),
            "protocol": group[0].headline,
            "mean of": widest_average(group[0].scored.averages),
            "mAP (%)": estimate([average(record) for record in group], len(group)),
        }
        for name, members in by_dataset.items()
        if not (members[0].synthetic or is_held_out(name))
        for label, group in by_method([one for one in members if not (one.ablation or one.overrides)]).items()
    ]


def _entry_page(sections: dict[str, list[Page]], overview: list[dict[str, Any]]) -> Page:
    blocks: Blocks = [
        "Rendered from what `results/` stores by `nox -s leaderboard`; do not edit by hand. One page a data set with "
        "its features: numbers on different pages are not comparable. Each table also stands as CSV and LaTeX in "
        "[tables](tables), and all pages as one HTML file with sortable tables, [report.html](../report.html).",
    ]
    if overview:
        caption = "Methods by their own options on real test videos; rows of one data set alone compare"
        blocks.append(Table("overview", caption, overview))
    for heading, members in sections.items():
        if members:
            links = [f"[{page.title}]({posixpath.relpath(page.path, 'leaderboards')}.md)" for page in members]
            blocks += [f"## {heading}", bullets(links)]
    return Page("leaderboards/README", "Leaderboards", blocks)


def publish(records: Sequence[Record], results: Path) -> list[Path]:
    """Write the records of finished runs to `results/records/` and render `results/leaderboards/`.

    A record whose numbers are already there is left as it is. Of two processes that publish, the second waits.

    Args:
        records: of finished runs.
        results: the folder.

    Returns:
        The leaderboard pages of the runs' data sets.
    """
    lock = results / ".publish.lock"
    with hold(lock):
        add_records(results / "records", records)
        stored = read_results(results)
        rendered = render(stored)
        write(rendered, results, keep_stale=bool(stored.refused))
        lock.unlink(missing_ok=True)  # a process that waits for it sees that and makes another
    pages = {f"leaderboards/{record.data.name}{'-ablations' if record.ablation else ''}.md" for record in records}
    if any(record.ablation and not record.synthetic for record in records) and "interpretations.md" in rendered:
        pages.add("interpretations.md")
    return sorted(results / page for page in pages)
