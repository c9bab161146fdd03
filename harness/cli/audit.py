"""Command `paper audit`: printed numbers that do not agree with each other."""

from __future__ import annotations

import argparse

from harness.cli.options import Commands, add_json_option
from harness.cli.output import print_json, print_table
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "audit",
        handle=handle,
        help="check the paper's printed numbers against each other",
        description="Recompute printed averages within rounding, compare what is printed more than once and rows with\n"
        "their own sources, and read the gains that the text quotes off the tables. Findings do not change the exit\n"
        "code: they are the paper's. --json also has the source of each correction.",
        epilog="examples:\n  wstal-bench paper audit\n  wstal-bench paper audit --json",
    )
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Print the findings and what was checked."""
    from harness.pages.audit import claims_table, findings_table, rules_table
    from harness.paper.audit.rules import tallies, the_paper

    paper = the_paper()
    found = tallies(paper)
    findings = [finding for tally in found.values() for finding in tally.findings]
    tables = {"findings": findings_table(findings), "rules": rules_table(found), "claims": claims_table(paper)}
    if arguments.json:
        print_json({name: table.rows for name, table in tables.items()})
        return 0
    for name, left_out, widths in (("findings", "source", [12, 28, 16, 24, 56]), ("rules", "what it demands", None)):
        columns = {column: tables[name].column(column) for column in tables[name].columns if column != left_out}
        print_table(columns, widths=widths, end="\n\n")
    say(f"Done: {sum(tally.checked for tally in found.values())} checks, {len(findings)} finding(s)")
    return 0
