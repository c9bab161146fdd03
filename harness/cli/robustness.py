"""Command `wstal-bench paper robustness`: contrastive losses under wrong pairs, on planted clusters."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.options import Commands, add_json_option, count
from harness.cli.output import print_json
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "robustness",
        handle=handle,
        help="measure how robust the contrastive losses are to wrong pairs, on planted clusters",
        description="Train linear embeddings of planted clusters (synthetic, no video) by InfoNCE and by Eq. 9 with\n"
        "pairs of which a known share is wrong, store the accuracies in DIR/robustness.json, and render what they say\n"
        "of the paper's claim as DIR/robustness.md. About two minutes on one core.",
        epilog="examples:\n"
        "  wstal-bench paper robustness\n"
        "  wstal-bench paper robustness --temperature 0.5 --out tau05 --json",
    )
    command.add_argument("--seeds", type=count, default=5, metavar="N", help="seeds 0 to N-1, 2 or more (default: 5)")
    command.add_argument("--temperature", type=float, default=0.1, metavar="TAU", help="of the losses (default: 0.1)")
    command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Run the study, store its numbers and render their page."""
    import torch

    from harness.io.console import ProgressReport
    from harness.pages.formats import files
    from harness.pages.robustness import robustness_page
    from harness.pages.site import write
    from harness.studies.robustness import PROBLEM, measure, planned_cases
    from harness.studies.robustness_verdict import verdicts

    # small matrices: more threads only wait for each other, and would round otherwise
    torch.set_num_threads(1)
    cases = planned_cases(arguments.temperature)
    with ProgressReport() as progress:
        measured = measure(
            PROBLEM, cases, arguments.seeds, lambda done, total: progress.update("trainings", done, total)
        )
    path = arguments.out / measured.FILE
    measured.store(path)
    page = robustness_page(measured)
    rendered = files([page])
    write(rendered, arguments.out, keep_stale=True)
    if arguments.json:
        claims = {name: {"outcome": one.outcome, "reasons": one.reasons} for name, one in verdicts(measured).items()}
        print_json(measured.to_json() | {"seeds": measured.seeds, "claims": claims})
    else:
        print(rendered[f"{page.path}.md"].rstrip())
    say(f"Done: {path} and {arguments.out / page.path}.md; `wstal-bench leaderboard` renders the other pages")
    return 0
