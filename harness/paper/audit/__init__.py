"""Rules that the paper's printed numbers have to obey, and where they do not."""

from harness.paper.audit.intervals import Finding, Paper, Tally
from harness.paper.audit.rules import RULES, audit, tallies, the_paper

__all__ = [
    "RULES",
    "Finding",
    "Paper",
    "Tally",
    "audit",
    "tallies",
    "the_paper",
]
