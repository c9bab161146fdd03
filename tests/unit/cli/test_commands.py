"""Small decisions of the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.cli.main import build_parser, main
from harness.cli.planning import seeds_from
from wstal.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0-2", (0, 1, 2)), ("0,3,5", (0, 3, 5)), ("1-2,7", (1, 2, 7))]
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert seeds_from(text) == seeds


@pytest.mark.parametrize("text", ["", "2-0", "a", "1,1", "-1", "0-", "1;2", "0-99999999999"])
def test_wrong_seeds(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        seeds_from(text)


HELP = (
    [], ["reproduce"], ["run"], ["replay"], ["localize"], ["evaluate"], ["rescore"], ["data", "verify"],
    ["data", "convert"], ["ls"], ["records", "query"], ["records", "diff"], ["records", "migrate"], ["records", "gc"],
    ["sweep"], ["plan"], ["leaderboard"],
    ["compare"], ["audit"], ["check", "determinism"], ["cost"], ["diagnose"], ["robustness"],
)  # fmt: skip


def test_every_documented_command_is_one_that_the_parser_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in HELP:
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    text = (
        "\n".join(page.read_text() for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"))) + capsys.readouterr().out
    )
    found = re.findall(r"^ *(wstal-bench .*)$", text.replace("\\\n", " "), re.MULTILINE)
    assert len(found) > 15
    for line in found:
        words = shlex.split(line.partition(" > ")[0], comments=True)
        build_parser().parse_args(words[1:])


def test_every_documented_session_exists() -> None:
    named = set(re.findall(r"nox -s ([\w-]+)", (ROOT / "README.md").read_text()))
    source = (ROOT / "noxfile.py").read_text()
    sessions = {f.replace("_", "-") for f in re.findall(r"^@nox\.session.*\ndef (\w+)", source, re.MULTILINE)}
    assert named
    assert named <= sessions


def test_the_readmes_result_is_the_leaderboards() -> None:
    readme = (ROOT / "README.md").read_text().split("**Real THUMOS14**")[1].split("**Does")[0]
    page = (ROOT / "results" / "leaderboards" / "thumos14-r2plus1d.md").read_text()

    def cells(text: str) -> list[list[str]]:
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[1:]]

    seeds = {row[0]: len(row[1].split(", ")) for row in cells(page.split("Under every protocol")[0])}
    localizers = cells("| its own localizer" + page.split("| its own localizer")[1].split("Schedules")[0])
    # neither the older version nor rows by options of their own
    measured = [row for row in localizers if "(0.1.0)" not in row[0] and "=" not in row[0]]
    shown = cells(readme)
    assert [row[0] for row in shown] == [row[0].removesuffix(" (0.2.0)") for row in measured]
    assert [row[1:] for row in shown] == [[str(seeds[row[0]]), row[1], row[2]] for row in measured]
    longer = next(row for row in localizers if row[0] == "ACM-Net (0.1.0)")
    assert f"ACM-Net reaches {longer[1]}" in " ".join(readme.split())


def test_the_readmes_ablations_are_the_pages() -> None:
    readme = (ROOT / "README.md").read_text().split("**Does the paper's method help there?**")[1].split("```")[0]
    page = (ROOT / "results" / "leaderboards" / "thumos14-r2plus1d-ablations.md").read_text()
    table = page.split("## Table IV")[1].split("## Table V:")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    rows = {tuple(row[:4]): (row[8], row[-1]) for row in cells if len(row) == 12}
    claims = {row[0]: row[2] for row in cells if len(row) == 8}
    claimed = {
        "+ RMGCL": "RMGCL helps the baseline",
        "+ RMGCL + GKSA, no pseudo labels": "GKS and GKA without pseudo labels help the baseline",
        "+ RMGCL + GKSA": "the whole helps the baseline",
    }
    switches = {
        "ACM-Net": ("", "", "", ""),
        "+ RMGCL": ("x", "", "", ""),
        "+ RMGCL + GKSA, no pseudo labels": ("x", "x", "x", ""),
        "+ RMGCL + GKSA": ("x", "x", "x", "x"),
    }
    shown = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines() if line.startswith("| ")
    ]
    assert [row[0] for row in shown[1:]] == list(switches)
    for name, measured, moved, printed in shown[1:]:
        assert (measured, printed) == rows[switches[name]]
        assert moved == claims.get(claimed.get(name, ""), "")


@pytest.mark.parametrize(
    "page", ["README.md", "docs/speed.md", "results/leaderboards/README.md", "results/robustness.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", file.read_text()) if "://" not in link]
    assert links
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_the_readmes_audit_is_the_audits() -> None:
    readme = (ROOT / "README.md").read_text()
    checks, findings = re.search(r"(\d+) checks, (\d+) findings", readme).groups()  # type: ignore[union-attr]
    page = (ROOT / "results" / "audit.md").read_text()
    assert f"{checks} checks" in page
    assert f"{findings} findings" in page


def test_the_readmes_spread_is_the_pages() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    spread = re.search(r"move by ([\d.]+) \(STPN\) to (\d+) points", readme)
    page = (ROOT / "results" / "leaderboards" / "rescored.md").read_text()
    assert spread is not None
    table = page.split("## Spread between protocols")[1].split("##")[0]
    spreads = {
        line.split("|")[1].strip(): line.split("|")[-2].strip() for line in table.splitlines() if line[:1] == "|"
    }
    assert spreads["stpn"] == spread[1]
    assert f"{float(spreads['pmil-base']):.0f}" == spread[2]


def test_the_readmes_ucf_numbers_are_the_pages() -> None:
    story = " ".join((ROOT / "README.md").read_text().split("On [UCF101-untrimmed]")[1].split("```")[0].split())
    page = (ROOT / "results" / "leaderboards" / "ucf-untrimmed-ablations.md").read_text()
    table = page.split("## Table IV")[1].split("## Table V:")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    averages = {tuple(row[:4]): row[8] for row in rows if len(row) == 12}
    whole = next(row for row in rows if row[0] == "the whole helps the baseline")
    found = re.search(
        r"reaches ([\d.]+ ± [\d.]+) .* whole method ([\d.]+ ± [\d.]+) .*; (\S+ ± \S+) is ([\w ]+)\.", story
    )
    assert found is not None
    assert found.groups() == (averages["", "", "", ""], averages["x", "x", "x", "x"], whole[2], whole[-1])
