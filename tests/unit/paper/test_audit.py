"""What a printed number may stand for; what the audit finds in the paper, on its page and by its command."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import audit as command
from harness.cli.options import Parser
from harness.pages.audit import audit_page
from harness.pages.formats import markdown_page
from harness.pages.model import Table
from harness.paper.audit.intervals import Finding, interval, mean
from harness.paper.audit.rules import tallies, the_paper
from harness.paper.tables import claims
from tests.helpers.printed_tables import half_up, thousandths


def test_a_printed_number_is_an_interval() -> None:
    assert interval("46.8") == (Fraction("46.75"), Fraction("46.85"))
    assert interval("9.453") == (Fraction("9.4525"), Fraction("9.4535"))
    assert interval("40") == (Fraction("39.5"), Fraction("40.5"))
    assert interval("-") is None
    assert interval("") is None


@given(st.lists(thousandths, min_size=1, max_size=5))
def test_arithmetic_on_printed_numbers_keeps_the_true_result(values: list[Fraction]) -> None:
    printed = [found for value in values if (found := interval(half_up(value)))]
    low, high = mean(printed)
    assert low <= sum(values, Fraction()) / len(values) <= high
    assert high - low == Fraction(1, 10)  # a mean is as exact as its cells
    low, high = printed[0] - printed[-1]
    assert low <= values[0] - values[-1] <= high


@cache
def findings() -> list[Finding]:
    return [finding for tally in tallies(the_paper()).values() for finding in tally.findings]


def places(kind: str) -> set[str]:
    return {finding.place for finding in findings() if finding.kind == kind}


def test_known_findings_of_the_paper() -> None:
    found = {finding.place: finding for finding in findings()}
    for place, kind, printed, recomputed in (
        ("I/rmgcl-gksa: AVG (0.1:0.5)", "average", "57.2", "57.58"),
        ("I/rmgcl-gksa: AVG (0.3:0.7)", "average", "37.0", "37.62"),
        ("I/ssn: AVG (0.1:0.5)", "average", "49.6", "47.40"),
        ("I/tadtr: AVG (0.1:0.5)", "wrong column", "46.6", "61.26"),
        ("IX/Testing Stage: FLOPs(G)", "cost", "0.944, 4.686, 8.679", "4.668 at T = 400"),
        ("VII/40: 0.5", "bold", "39.3", "39.4 (60)"),
        ("III/tadtr", "citation", "TadTR [70]", "[72]"),
        ("I/w-talc", "citation", "W-TALC [75]", "[31]"),
        ("I/bmn", "venue", "ICCV'18", "ICCV'19"),
    ):
        assert (found[place].kind, found[place].printed, found[place].recomputed) == (kind, printed, recomputed)


def test_clean_rows_of_the_paper_are_not_flagged() -> None:
    """By hand: STPN's 174.9 / 5 = 34.98, 92.4 / 5 = 18.48 and 189.1 / 7 = 27.01; ours' 327.8 / 7 = 46.83."""
    assert places("average") | places("wrong column") == {
        "I/ssn: AVG (0.1:0.5)", "I/tadtr: AVG (0.1:0.5)", "I/rmgcl-gksa: AVG (0.1:0.5)", "I/rmgcl-gksa: AVG (0.3:0.7)",
    }  # fmt: skip
    assert places("same row") == {"I/bsn, I/g-tad"}
    assert places("transposed digits") == {"IV/rmgcl, V/memory: 0.1:0.1:0.7"}
    assert places("rising mAP") == places("average out of bounds") == set()
    differing = {place.partition(":")[0] for place in places("printed differently")}
    assert differing == {
        "I/rmgcl-gksa, IV/full, VI/codewords, VII/40", "I/rmgcl-gksa, VII/40", "IV/rmgcl, V/robust",
        "I/stpn, VIII/stpn", "I/bas-net, VIII/bas-net",
    }  # fmt: skip
    # FAC-Net in I and VIII (4 quantities) and the baseline of IV and V (3) are among the 22 that recur
    assert tallies(the_paper())["printed more than once"].checked == 22


def test_the_page_is_deterministic_and_counts_what_it_lists() -> None:
    page = audit_page()
    the_paper.cache_clear()
    assert audit_page() == page
    text = markdown_page(page)
    for finding in findings():
        assert f"| {finding.place}" in text
    for kind, count in Counter(finding.kind for finding in findings()).items():
        assert f"{kind} {count}" in text
    checked = sum(tally.checked for tally in tallies(the_paper()).values())
    found = len(findings())
    assert f"{checked} checks, {checked - found} agree, {found} findings" in text


def test_the_tables_of_the_page() -> None:
    demanded, found, gains = (block for block in audit_page().blocks if isinstance(block, Table))
    assert [demanded.name, found.name, gains.name] == ["audit-rules", "audit-findings", "audit-claims"]
    assert found.rows == [vars(finding) for finding in findings()]
    assert demanded.column("findings") == [len(tally.findings) for tally in tallies(the_paper()).values()]
    for row in demanded.rows:
        assert row["checked"] == row["agree"] + row["findings"]
    assert gains.column("quoted") == [f"{said.quoted} %" for said in claims()]
    # a gain of the text is no finding where an interpretation fits
    wrong = {finding.place for finding in findings() if finding.kind == "claim"}
    for row in gains.rows:
        fits = {row["fits as printed"], row["fits within rounding"]} != {"none"}
        assert fits == (f"{row['where']}: {row['what']}" not in wrong)
    for table, printed in ((found, "printed"), (gains, "quoted")):
        assert [name for name in table.columns if table.role(name) == "published"] == [printed]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str) -> str:
        parser = Parser()
        command.add(parser.add_subparsers(parser_class=Parser))
        arguments: argparse.Namespace = parser.parse_args(["audit", *words])
        assert arguments.handle(arguments) == 0
        return capsys.readouterr().out

    return run


def test_the_command_prints_all_findings(run: Callable[..., str]) -> None:
    printed = json.loads(run("--json"))
    assert [Finding(**record) for record in printed["findings"]] == findings()
    assert sum(rule["findings"] for rule in printed["rules"]) == len(findings())
    assert len(printed["claims"]) == len(claims())
    text = run()
    assert "57.58" in text
    assert "cannot be judged" in text
