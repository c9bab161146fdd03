"""`wstal-bench run`: train and score one method with one seed."""

from __future__ import annotations

import argparse
import json
import os

from harness.cli.inputs import overrides_from, source_from
from harness.cli.options import EXIT_CODES, Commands, add_data_options, add_training_options, method_name
from harness.cli.output import print_metrics
from harness.io.console import say


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser(
        "run",
        help="train and score one method with one seed",
        description="Train one method with one seed, localize the test videos and score them under every protocol\n"
        "that applies. A finished run is not repeated; an interrupted one goes on from its last checkpoint.",
        epilog="examples:\n"
        "  wstal-bench run --method acmnet --seed 0\n"
        "  wstal-bench run --method acmnet --data ~/thumos14 --seed 0 --set train.epochs=20 --json\n\n" + EXIT_CODES,
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--method", type=method_name, metavar="M", help="see `wstal-bench ls methods`")
    what.add_argument("--row", metavar="TABLE/ROW", help="a row of an ablation plan, see `wstal-bench ls rows`")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="decides every random draw (default: 0)")
    add_data_options(command)
    add_training_options(command)
    command.add_argument("--json", action="store_true", help="print the record as JSON, and only that, on stdout")
    command.set_defaults(handle=handle)


def handle(arguments: argparse.Namespace) -> int:
    """Train and score one method with one seed."""
    # cuBLAS repeats its sums only with a workspace of fixed size, set before it is loaded
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    from harness.io.console import ProgressReport
    from harness.records.store import Store
    from harness.runs.devices import pick_device
    from harness.runs.environment import git_state
    from harness.runs.execute import execute
    from harness.runs.plans import find_row
    from harness.runs.spec import plan_run

    device = pick_device(arguments.device)
    torch.set_num_threads(arguments.threads or (1 if arguments.data is None else torch.get_num_threads()))
    source = source_from(arguments)
    row = find_row(arguments.row) if arguments.row else None
    method = row.method if row else arguments.method
    spec = plan_run(method, arguments.seed, source, overrides_from(arguments), row)
    with ProgressReport() as progress:
        folder, record, reused = execute(
            spec,
            source,
            Store(arguments.store),
            device,
            lambda stage, done, total, loss: progress.update(
                f"{spec.id} {stage}", done, total, "" if loss is None else f"loss {loss:.4f}"
            ),
        )
    if arguments.json:
        print(json.dumps(record | {"run": str(folder), "reused": reused}))
    else:
        print_metrics(record["metrics"])
    commit = git_state().get("commit")
    if reused and record["environment"].get("commit") not in (None, commit):
        say(f"It was computed by commit {record['environment']['commit']}, the code is at {commit}.")
    say(f"{'Was done already' if reused else 'Done'}: {folder}")
    return 0
