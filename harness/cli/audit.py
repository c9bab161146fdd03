"""`wstal-bench audit`: where printed numbers do not agree with each other, or runs not with themselves."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from harness.cli.options import EXIT_CODES, Commands, add_data_options, count, method_name
from harness.io.console import say
from wstal.errors import RunError, UserError

if TYPE_CHECKING:
    from harness.studies.determinism import Audit

DIFFER = 5
ALL = "all"


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "audit",
        help="check the paper's printed numbers against each other, or runs against themselves",
        description="Recompute printed averages within rounding, compare what is printed more than once, and read the\n"
        "gains that the text quotes off the tables. Findings do not change the exit code: they are the paper's.\n"
        "`audit determinism` is another audit: whether a method's runs, done again, give the same bits.",
        epilog="examples:\n"
        "  wstal-bench audit\n"
        "  wstal-bench audit --json\n"
        "  wstal-bench audit determinism acmnet\n\n" + EXIT_CODES,
    )
    command.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    command.set_defaults(handle=handle)
    other = command.add_subparsers(title="another audit", metavar="[determinism]")

    determinism = other.add_parser(
        "determinism",
        help="run a method several times and compare weights, scores, detections and records bit by bit",
        description="Run twins of a method, each in a fresh process and a store of its own, and compare their files.\n"
        f"On one number of threads all bits must agree, else the exit code is {DIFFER}. Another seed must give other\n"
        "bits. How far another number of threads moves them is told, not judged. On CUDA, operators without a\n"
        "deterministic implementation are named. Without --data the runs are on a small generated data set and\n"
        "short, under a minute a method; with it they are whole runs: --set train.epochs=10 makes them shorter.",
        epilog="examples:\n"
        "  wstal-bench audit determinism rmgcl-gksa\n"
        "  wstal-bench audit determinism all --threads 1,2,4 --json\n"
        "  wstal-bench audit determinism acmnet --data ~/thumos14 --set train.epochs=10 --device cuda\n\n" + EXIT_CODES,
    )
    determinism.add_argument(
        "method", type=method_name, metavar="METHOD", help=f"see `wstal-bench ls methods`, or {ALL}"
    )
    determinism.add_argument("--seed", type=int, default=0, metavar="N", help="the control has N + 1 (default: 0)")
    determinism.add_argument(
        "--threads", type=_counts, default=(1, 2), metavar="N,N", help="numbers of CPU threads (default: 1,2)"
    )
    determinism.add_argument("--twins", type=count, default=2, metavar="N", help="runs on each number (default: 2)")
    determinism.add_argument("--device", default="auto", metavar="D", help="auto, cpu or cuda (default: auto)")
    determinism.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change options of the recipe",
    )
    add_data_options(determinism)
    # without a default of its own, which would undo `audit --json determinism`
    determinism.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, and only that, on stdout"
    )
    determinism.set_defaults(handle=audit_determinism)


def handle(arguments: argparse.Namespace) -> int:
    """Print the findings and what was checked."""
    from harness.pages.audit import claims_table, findings_table, rules_table
    from harness.paper.audit.rules import tallies, the_paper

    paper = the_paper()
    found = tallies(paper)
    findings = [finding for tally in found.values() for finding in tally.findings]
    tables = {"findings": findings_table(findings), "rules": rules_table(found), "claims": claims_table(paper)}
    if arguments.json:
        print(json.dumps({name: table.rows for name, table in tables.items()}, ensure_ascii=False))
        return 0
    from tabulate import tabulate

    for name, left_out, widths in (("findings", "", [12, 28, 16, 24, 56]), ("rules", "what it demands", None)):
        columns = {column: tables[name].column(column) for column in tables[name].columns if column != left_out}
        print(tabulate(columns, headers="keys", disable_numparse=True, maxcolwidths=widths), end="\n\n")
    say(f"Done: {sum(tally.checked for tally in found.values())} checks, {len(findings)} finding(s)")
    return 0


def audit_determinism(arguments: argparse.Namespace) -> int:
    """Run twins, compare them, and print what was found."""
    import tempfile
    from pathlib import Path

    from harness.registry import load_method, method_entries
    from harness.studies.determinism import audit_method, write_small

    if arguments.twins < 2:
        raise UserError("--twins wants 2 or more: one run has nothing to agree with.")
    names = list(method_entries()) if arguments.method == ALL else [arguments.method]
    for name in names:
        load_method(name)
    audits: dict[str, Audit] = {}
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="wstal-bench-audit-") as folder:
        small = None if arguments.data else write_small(Path(folder))
        words = _passed(arguments, small)
        for name in names:
            try:
                audits[name] = audit_method(name, words, arguments.seed, arguments.threads, arguments.twins, say)
            except RunError as error:
                failures.append(f"{name}: {error}")  # the others are audited
    wrong = [pair for audit in audits.values() for pair in audit.pairs if not pair.good]
    if arguments.json:
        found = {
            name: {"device": audit.device, "operators": audit.operators, "pairs": [p.to_json() for p in audit.pairs]}
            for name, audit in audits.items()
        }
        print(json.dumps(found))
    else:
        _print(audits)
    if failures:
        raise RunError("\n".join(failures))
    for pair in wrong:
        say(f"{pair.method}, {pair.threads} thread(s), beside {pair.beside}: {pair.complaint}")
    twins = [pair for audit in audits.values() for pair in audit.pairs if pair.kind == "twin"]
    agree = sum(pair.good for pair in twins)
    say(f"Done: {len(audits)} method(s), {agree} of {len(twins)} pairs of twins agree, {len(wrong)} finding(s)")
    return DIFFER if wrong else 0


def _counts(text: str) -> tuple[int, ...]:
    found = tuple(map(count, text.split(",")))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"expected distinct numbers, got {text!r}")
    return found


def _passed(arguments: argparse.Namespace, small: object) -> list[str]:
    """Options of each `wstal-bench run`."""
    from harness.studies.determinism import QUICK

    quick = QUICK if small else ()  # what --set says of the same options comes later and wins
    passed = ["--device", arguments.device, "--data", str(small or arguments.data), "--labels", arguments.labels]
    for name in ("annotations", "descriptor"):
        if (value := getattr(arguments, name)) is not None:
            passed += [f"--{name}", str(value)]
    passed += ["--streams", *arguments.streams] if arguments.streams else []
    passed += ["--allow-missing"] if arguments.allow_missing else []
    return passed + [word for assignment in (*quick, *arguments.assignments) for word in ("--set", assignment)]


def _print(audits: dict[str, Audit]) -> None:
    from tabulate import tabulate

    from harness.studies.determinism import rows

    print(tabulate(rows(audits.values()), headers="keys", disable_numparse=True), end="\n\n")
    print("Weights, scores and mAP: the largest difference. Operators that CUDA cannot repeat:")
    for name, audit in audits.items():
        if audit.operators is None:
            again = f"`wstal-bench audit determinism {name} --device cuda`"
            print(f"  {name}: not measured here, the runs were on the CPU; {again}")
        else:
            print(f"  {name} on {audit.device}: {', '.join(audit.operators) or 'none'}")
