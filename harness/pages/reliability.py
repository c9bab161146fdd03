"""Page of the stress tests."""

from __future__ import annotations

from harness.pages.model import Page, Table
from harness.records.words import bullets
from harness.studies.reliability import ReliabilityFile


def reliability_page(measured: ReliabilityFile) -> Page:
    """Build the page of the stress tests."""
    packages = ", ".join(f"{name} {number}" for name, number in measured.packages.items())
    commit = "outside a checkout" if measured.commit is None else f"commit {measured.commit[:10]}"
    header = {
        "machine": f"{measured.cpu}; {measured.system}",
        "software": f"wstal-bench {measured.package}, Python {measured.python}, {packages}",
        "code": commit + (", with changes that were not committed" if measured.dirty else ""),
        "date": measured.date,
    }
    rows = [
        {"what was tried": one.what, "figure": one.figure, "command": f"`{one.command}`"} for one in measured.figures
    ]
    return Page(
        "reliability",
        "Reliability",
        [
            "What [docs/reliability.md](../docs/reliability.md) promises, measured: the harness is killed, starved of "
            "disk, fed damaged files and run from several processes at once. Each figure stands with the command that "
            "measures it again.",
            bullets(f"{name}: {text}" for name, text in header.items()),
            Table("reliability", "Figures of the stress tests", rows, {"figure": "measured"}),
            "Times are of this machine, with whatever else it did. A fault that no test provokes is not excluded.",
        ],
        tab="Harness",
    )
