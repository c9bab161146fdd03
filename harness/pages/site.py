"""All pages and files that are rendered from stored results: the same results give the same bytes."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.charts.comparisons import intervals
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
from harness.pages.methods import method_pages
from harness.pages.model import TABS, Blocks, Link, Linked, Page, Table
from harness.pages.observations import observations_page
from harness.pages.paper_tables import table_page
from harness.pages.ranking import rankings, schedule_words, standings, verdict
from harness.pages.readme import THUMOS, excerpt, fill_blocks, read_documents
from harness.pages.released import rescored_page
from harness.pages.reliability import reliability_page
from harness.pages.robustness import robustness_page
from harness.pages.sensitivity import sensitivity_page
from harness.paper.tables import published_tables
from harness.records.collection import add_records
from harness.records.grouping import average, by_data, has_ablations
from harness.records.reading import list_records
from harness.records.schema import Record
from harness.records.words import bullets, option_words, widest_average
from harness.registry import method_entries
from harness.seed_statistics import Estimate
from harness.studies.cost import CostFile
from harness.studies.released import FOLDER as RESCORED
from harness.studies.released import Rescored, load_rescored
from harness.studies.reliability import ReliabilityFile
from harness.studies.robustness import RobustnessFile
from harness.studies.sensitivity import SensitivityFile
from harness.studies.stored import StudyFile
from wstal.errors import UserError

PROJECT = Path(__file__).parents[2] / "results"
REPORT = "report.html"
YOURS = "Your results"
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
        sensitivity: runs by seed, threads, processor and precision; None where there are none.
        refused: a message for each file that cannot be used.
        documents: texts beside the folder that quote results between markers, by path from it.
        own: whether they are a user's, not those that the project stores.
        run_pages: address of the page of each run that has one, by id.
    """

    records: Sequence[Record]
    rescored: Sequence[Rescored] = ()
    cost: CostFile | None = None
    reliability: ReliabilityFile | None = None
    robustness: RobustnessFile | None = None
    sensitivity: SensitivityFile | None = None
    refused: Sequence[str] = ()
    documents: Mapping[str, str] = field(default_factory=dict)
    own: bool = False
    run_pages: Mapping[str, str] = field(default_factory=dict)


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

    studies = study(CostFile), study(ReliabilityFile), study(RobustnessFile), study(SensitivityFile)
    own = bool(records) and folder.resolve() != PROJECT
    return Results(
        records,
        rescored,
        *studies,
        refused,
        read_documents(folder),
        own,
        _run_pages(records, folder) if own else {},
    )


def _run_pages(records: Sequence[Record], folder: Path) -> dict[str, str]:
    """Return where the pages of runs are, as a link from the entry page, if the folder is inside their store."""
    found = {record.id: folder.parent / "runs" / record.id / "page.html" for record in records}
    return {run: f"../../runs/{run}/page.html" for run, page in found.items() if page.exists()}


def render(results: Results) -> dict[str, str]:
    """Return every rendered file by path below the results folder."""
    made = pages(results)
    quoted = {path: fill_blocks(text, made) for path, text in results.documents.items()}
    report = html_report(made, heading=YOURS) if results.own else html_report(made)
    return files(made) | {REPORT: report} | quoted


def pages(results: Results) -> list[Page]:
    """Build all pages: the entry page, for each data set its methods and its ablations, a page a method, the published
    tables with verdicts, the studies. Of a user's own results: what there is to say about them.
    """
    by_dataset = grouped(results.records, lambda record: record.data.name)
    made: list[Page] = []
    for members in by_dataset.values():
        if themselves := [record for record in members if record.ablation is None]:
            made.append(dataset_page(themselves))
        if has_ablations(members):
            made.append(ablation_page(members))
        if looks := observations_page(members):
            made.append(looks)
    if interpretations := interpretations_page(results.records):
        made.append(interpretations)
    if results.robustness:
        made.append(robustness_page(results.robustness))
    names = sorted({record.method for record in results.records} & method_entries().keys()) if results.own else None
    made += method_pages(results.records, results.cost, names)
    made += _paper_pages(results)
    if results.reliability:
        made.append(reliability_page(results.reliability))
    if results.sensitivity:
        made.append(sensitivity_page(results.sensitivity, results.records))
    # real before synthetic in each part
    made.sort(key=lambda page: (TABS.index(page.tab), page.synthetic))
    return [_entry_page(results, made, by_dataset), *made]


def _paper_pages(results: Results) -> list[Page]:
    """Build the pages of published tables; of own results those alone that have a number beside a published one."""
    compared = {
        number: compare(table, results.records, results.rescored) if table.dataset else []
        for number, table in published_tables().items()
    }
    if results.own:
        return [
            table_page(published_tables()[number], lines)
            for number, lines in compared.items()
            if any(line[0].measurement for line in lines)
        ]
    made = [
        table_page(table, compared[number]) if table.dataset else cost_page(table, results.cost)
        for number, table in published_tables().items()
    ]
    if results.rescored:
        made.append(rescored_page(results.rescored))
    return [*made, audit_page()]


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
    names = (
        "interpretations.md",
        "readings.md",
        "audit.md",
        "reliability.md",
        "robustness.md",
        "sensitivity.md",
        REPORT,
    )
    paths += [path for name in names if (path := results / name).exists()]
    return {path.relative_to(results).as_posix(): path for path in paths}


def _entry_page(results: Results, made: Sequence[Page], by_dataset: Mapping[str, list[Record]]) -> Page:
    """Build the page that the others are found from: who leads on each data set, one's own runs, and links."""
    blocks: Blocks = []
    overview = _overview(by_dataset, results.own)
    if overview:
        caption = "Who leads on each data set, by the mean mAP; numbers of different data sets do not compare"
        blocks.append(Table("overview", caption, overview, narrow=("data set", "result")))
    if results.own:
        blocks += _own_runs(results)
    blocks += _leaders(by_dataset.get(THUMOS, []))
    contents: list[str] = []
    for tab in TABS:
        if links := [f"[{page.title}]({_beside(page)})" for page in made if page.tab == tab]:
            contents += [f"## {tab}", bullets(links)]
    whose = "your runs" if results.own else "what `results/` stores"
    blocks.append(
        f"Rendered from {whose} by `wstal-bench leaderboard`: do not edit by hand. Each table also stands as CSV and "
        "LaTeX in [tables](tables), and all pages as one HTML file with sortable tables, [report.html](../report.html)."
    )
    title = YOURS if results.own else "Leaderboards"
    return Page("leaderboards/README", title, blocks, contents="\n\n".join(contents))


def _beside(page: Page) -> str:
    return f"{posixpath.relpath(page.path, 'leaderboards')}.md"


def _overview(by_dataset: Mapping[str, list[Record]], own: bool) -> list[dict[str, Any]]:
    """Return who leads on each data set; of the project's, on real test videos and by the methods' own options."""
    rows = []
    for name, members in by_dataset.items():
        themselves = [one for one in members if not one.ablation and (own or not one.overrides)]
        if is_held_out(name) or not themselves or (members[0].synthetic and not own):
            continue
        sections = by_data(themselves)
        for digest, section in sections.items():
            for ranked in rankings(section):
                found = standings(ranked)
                first = found[0].records[0]
                title = f"{first.data.title}, data {digest}" if len(sections) > 1 else first.data.title
                rows.append(
                    {
                        "data set": Linked((Link(title, f"{name}.md"),)),
                        "version": first.version,
                        "evaluator": f"{first.headline}, {widest_average(first.scored.averages)}",
                        "test videos": first.scored.videos,
                        "methods": sum(not one.chance for one in found),
                        "runs": sum(len(one.records) for one in found),
                        "result": verdict(found),
                    }
                )
    return rows


def _leaders(records: Sequence[Record]) -> Blocks:
    """Draw the methods on real THUMOS14 that the README shows, with their seeds."""
    own = [record for record in records if not (record.ablation or record.overrides)]
    found = standings(rankings(next(iter(by_data(own).values()), []))[0])
    shown = excerpt(found, lambda one: one.label, lambda one: one.contends)
    if not shown:
        return []
    over = widest_average(shown[0].records[0].scored.averages)
    return [
        intervals(
            {one.label: [average(record) for record in one.records] for one in shown},
            name="leaders",
            caption=f"{shown[0].records[0].data.title}: mean mAP {over}, a dot a seed",
            axis=f"mean mAP {over} (%)",
        )
    ]


def _own_runs(results: Results) -> Blocks:
    """List the runs of a user with links to their pages, and say where the project's own results are."""
    rows = []
    for record in results.records:
        page = results.run_pages.get(record.id)
        row = f", row {', '.join(map(str, record.ablation.row.values())) or 'of its table'}" if record.ablation else ""
        rows.append(
            {
                "run": Linked((Link(record.id, page),)) if page else record.id,
                "method": f"{record.title}{row}",
                "options": ", ".join(option_words(record.overrides)),
                "seed": record.seed,
                "average": Estimate(average(record)),
                "schedule": schedule_words(record),
            }
        )
    apart = f" The project's stored results stand apart, in {PROJECT}." if PROJECT.is_dir() else ""
    return [
        "## Your runs",
        f"Each run has a page of its videos, classes, errors and losses (`wstal-bench show RUN`).{apart}",
        Table("runs", "Your runs", rows, narrow=("run", "average")),
    ]


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
