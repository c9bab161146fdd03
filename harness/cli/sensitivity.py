"""Command `wstal-bench debug sensitivity`: how far seed, threads, processor and precision move a result."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli import options
from harness.cli.inputs import run_request
from harness.cli.output import print_json, print_table
from harness.io.console import say

VARIANTS = ("threads", "processor", "precision")
SEEDS = "0-2"


def add(commands: options.Commands) -> None:
    """Declare the command and its options."""
    command = commands.add_parser(
        "sensitivity",
        handle=handle,
        help="measure how far seeds, threads, processors and precision move a method's result",
        description="Train methods with several seeds, each on one thread in float32, and again with 2 threads, with\n"
        "this processor's widest vector instructions switched off (as an older one has it, to AVX2), and with\n"
        "bfloat16 products. Nothing else differs. Results go to DIR/sensitivity.json beside those of other methods\n"
        "and data sets, and DIR/sensitivity.md shows them all. Whole runs, three seeds and three variants: 12 a\n"
        "method; --set train.epochs=60 makes them shorter.",
        epilog="examples:\n"
        "  wstal-bench debug sensitivity acmnet\n"
        "  wstal-bench debug sensitivity acmnet rskp --data ~/thumos14 --variants threads --out results",
    )
    command.add_argument("methods", type=options.method_name, nargs="+", metavar="METHOD", help="trained methods")
    command.add_argument("--seeds", default=SEEDS, metavar="S", help=f"as 0-2 or 0,3,5 (default: {SEEDS})")
    command.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="(default: all)")
    command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    options.add_set_option(command)
    options.add_data_options(command)
    options.add_json_option(command)


def handle(arguments: argparse.Namespace) -> int:
    """Run the methods, store their results and render the page."""
    from harness.cli.planning import seeds_from
    from harness.pages.formats import files
    from harness.pages.sensitivity import sensitivity_page, sensitivity_rows
    from harness.pages.site import read_results, write
    from harness.registry import load_method
    from harness.studies.sensitivity import SensitivityFile, measure

    for name in arguments.methods:
        load_method(name)
    seeds, path = seeds_from(arguments.seeds), arguments.out / SensitivityFile.FILE
    stored = SensitivityFile.load(path) if path.exists() else None
    request = run_request(arguments)
    for name in arguments.methods:
        runs = measure(request.model_copy(update={"method": name}), seeds, arguments.variants, say)
        stored = stored.with_runs(runs) if stored else SensitivityFile.of(runs)
        stored.store(path)  # after each method: a later one may be interrupted
        page = sensitivity_page(stored, read_results(arguments.out).records)
        write(files([page]), arguments.out, keep_stale=True)
    assert stored is not None  # there is a method
    if arguments.json:
        print_json(stored.to_json())
    else:
        print_table(sensitivity_rows(stored))
    say(f"Done: {path} and {arguments.out / page.path}.md")
    return 0
