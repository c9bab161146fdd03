"""Rules that the paper's printed numbers have to obey, and where they do not."""

from harness.audit.page import audit_page, claims_table, findings_table, rules_table
from harness.audit.printed import Finding, Paper, Tally
from harness.audit.rules import RULES, audit, tallies, the_paper

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
