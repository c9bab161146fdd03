"""Page of the audit, and its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.pages.model import Page, Table
from harness.paper.audit.intervals import Finding, Paper, Tally, interval
from harness.paper.audit.rules import RULES, tallies, the_paper
from harness.paper.audit.text import interpretations


def audit_page() -> Page:
    """Build the page: the rules, their findings, and the interpretations of the text's claims."""
    paper = the_paper()
    found = tallies(paper)
    findings = [finding for tally in found.values() for finding in tally.findings]
    checked = sum(tally.checked for tally in found.values())
    kinds = Counter(finding.kind for finding in findings)
    rows = [row for table in paper.tables for row in table.rows]
    numbers = sum(bool(interval(text)) for row in rows for text in row.cells.values())
    blocks: list[str | Table] = [
        f"Rules run over the {len(paper.tables)} tables of the paper ({len(rows)} rows, {numbers} numbers) and the "
        f"{len(paper.claims)} gains that its text quotes. A printed number stands for every number that rounds to it, "
        "so a finding is what no rounding explains. A finding says that two printed things do not agree; it does not "
        "say why, and only where it names a source which of them is wrong.",
        f"{checked} checks, {checked - len(findings)} agree, {len(findings)} findings: "
        + ", ".join(f"{kind} {count}" for kind, count in kinds.items())
        + ".",
        "## Rules",
        rules_table(found),
        "## Findings",
        "Places are `TABLE/ROW: COLUMN`, with the row ids of the data files.",
        findings_table(findings),
        "## Gains that the text quotes",
        "Each is read as a difference in points and in per cent of the smaller number, in the columns that its "
        "sentence allows. With several columns and two interpretations a fit may be chance.",
        claims_table(paper),
        "## Limits",
        "- Averages over tIoUs that the table does not print can only be bounded. What AVG is the mean of in Tables IV "
        "to VIII is not stated; it is read as 0.1:0.7.\n"
        '- Which rows are one configuration is our interpretation: "Ours" in Tables I, IV, VI and VII; the baseline of '
        "IV and V; RMGCL alone in IV and V; BaS-Net, FAC-Net and STPN in I and VIII.\n"
        "- Rows of other methods are compared with each other and, where a public source has one of theirs, with that. "
        "A source says what of it is unchecked.",
    ]
    return Page("audit", "Audit of the published numbers", blocks, tab="Paper against measured")


def rules_table(found: Mapping[str, Tally]) -> Table:
    """Build a row for each rule: its demand, and the numbers of places checked, in agreement, unknown, and found."""
    rows = [
        {
            "rule": name,
            "what it demands": (RULES[name].__doc__ or "").removeprefix("Require that ").rstrip("."),
            "checked": tally.checked,
            "agree": tally.checked - len(tally.findings),
            "cannot be judged": tally.unknown,
            "findings": len(tally.findings),
        }
        for name, tally in found.items()
    ]
    return Table("audit-rules", "Rules run over the published numbers", rows)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Build a row for each finding: kind, place, printed, recomputed, why, source of the correction."""
    rows = [vars(finding) for finding in findings]
    return Table("audit-findings", "Published numbers that break a rule", rows, {"printed": "published"})


def claims_table(paper: Paper) -> Table:
    """Build a row for each claim of the text: where, what, quoted, the interpretations that give the quoted number."""
    tables = {table.number: table for table in paper.tables}
    rows = []
    for claim in paper.claims:
        allowed = [one for one in interpretations(claim, tables[claim.table]) if one.allowed]
        row = {"where": claim.where, "what": claim.about, "quoted": f"{claim.quoted} %"}
        for fit, heading in (("printed", "fits as printed"), ("rounding", "fits within rounding")):
            row[heading] = "; ".join(str(one) for one in allowed if one.fit == fit) or "none"
        rows.append(row)
    return Table("audit-claims", "Gains that the text quotes", rows, {"quoted": "published"})
