"""Rules that the paper's printed numbers have to obey, and where they do not."""

from harness.pages.audit import audit_page, claims_table, findings_table, rules_table
from harness.paper.audit.intervals import Finding, Paper, Tally
from harness.paper.audit.rules import RULES, audit, tallies, the_paper

__all__ = [
    "RULES",
    "Finding",
    "Paper",
    "Tally",
    "audit",
    "audit_page",
    "claims_table",
    "findings_table",
    "rules_table",
    "tallies",
    "the_paper",
]
