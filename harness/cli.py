"""The command line: parsing only. What a command does is in `harness.commands`, imported when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from wstal.errors import RunError, UserError

MOST_THREADS = 1024
EXIT_CODES = """\
exit codes:
  0  done
  1  an internal error: please report it with its traceback
  2  wrong usage or bad input; the message says what, where and the remedy
  3  data that a data set lists is missing
  4  the store cannot be written, or a run failed
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        from harness import commands

        handler = getattr(commands, parsed.handler)
        return int(handler(parsed) or 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        print("error: out of memory. Lower train.batch_size, train.temporal_length or what --set made large.",
              file=sys.stderr)  # fmt: skip
        return RunError.exit_code
    except MemoryError:
        print("error: out of memory. Lower train.batch_size or train.temporal_length.", file=sys.stderr)
        return RunError.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished epochs are kept, the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader (head, less) has what it wanted; keep the interpreter's flush at exit quiet too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wstal-bench",
        description="Benchmark and reproducibility harness for weakly supervised temporal action localization.",
        epilog="`wstal-bench COMMAND --help` explains a command with examples.\n\n" + EXIT_CODES,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_reproduce(commands)
    _add_run(commands)
    _add_replay(commands)
    _add_localize(commands)
    _add_evaluate(commands)
    _add_data(commands)
    _add_ls(commands)
    _add_leaderboard(commands)
    _add_diagnose(commands)
    _add_robustness(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Whole option names only, and descriptions printed as they are written."""

    def __init__(self, **keywords: object) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **keywords,  # type: ignore[arg-type]
        )


_Commands = argparse._SubParsersAction


def _add_reproduce(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "reproduce",
        help="train and score every method on a data set, then render its leaderboard (the main job)",
        description="Train every registered method, and every row of the paper's ablations, with several seeds on\n"
        "a data set, score each run under every evaluation protocol that applies, store the records and render\n"
        "the pages.\n\n"
        "Without --data the embedded synthetic data set is used: it shows that everything works, not how\n"
        "good a method is. Runs that are in the store already are not trained again.",
        epilog="examples:\n"
        "  wstal-bench reproduce thumos14\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --seeds 0-4\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --table IV V\n"
        "  wstal-bench reproduce thumos14 --data ~/thumos14 --methods acmnet --set train.epochs=200\n\n" + EXIT_CODES,
    )
    command.add_argument("dataset", metavar="DATASET", help="thumos14, activitynet13, activitynet12 or fineaction")
    _add_data_options(command)
    what = command.add_mutually_exclusive_group()
    what.add_argument(
        "--methods", nargs="+", metavar="M", help="only these methods (default: all registered, and all ablations)"
    )
    what.add_argument(
        "--table", nargs="+", metavar="T", help="only these ablations: IV, V, VI, VII, figure_5 or readings"
    )
    command.add_argument("--seeds", default=None, metavar="S", help="seeds, as 0-2 or 0,3,5 (default: the schedule's)")
    command.add_argument("--jobs", type=_count, metavar="N", help="runs at once (default: one a core, one on a GPU)")
    command.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="records/ and leaderboards/ are written here (default: results)",
    )
    _add_training_options(command)
    command.set_defaults(handler="reproduce")


def _add_run(commands: _Commands[_Parser]) -> None:
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
    what.add_argument("--method", metavar="M", help="see `wstal-bench ls methods`")
    what.add_argument("--row", metavar="TABLE/ROW", help="a row of an ablation plan, see `wstal-bench ls rows`")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="decides every random draw (default: 0)")
    _add_data_options(command)
    _add_training_options(command)
    command.add_argument("--json", action="store_true", help="print the record as JSON, and only that, on stdout")
    command.set_defaults(handler="run")


def _add_replay(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "replay",
        help="do a failed training step again and say what is not finite",
        description="A training whose loss is not finite keeps the step: batch, weights before it, and random state.\n"
        "This does its forward pass again on the CPU and prints each loss term and the cause.",
        epilog="example:\n  wstal-bench replay runs/partial/RUN/failed-step.safetensors\n\n" + EXIT_CODES,
    )
    command.add_argument("step", type=Path, metavar="FILE", help="failed-step.safetensors of the run's folder")
    command.set_defaults(handler="replay")


def _add_localize(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "localize",
        help="apply a trained run to other videos",
        description="Score the videos of a folder with the weights of a finished run and write their detections.\n"
        "The folder may hold one subset only. annotations.json has to list its videos; times are not read.",
        epilog="example:\n"
        "  wstal-bench localize runs/runs/RUN --data ~/my-videos --subset test --out detections.json\n\n" + EXIT_CODES,
    )
    command.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    _add_data_options(command, required=True)
    command.add_argument("--subset", required=True, metavar="S", help="train, test, or the annotation file's own name")
    command.add_argument("--out", type=Path, required=True, metavar="DETECTIONS.json", help=".json or .json.gz")
    command.add_argument("--device", default="auto", metavar="D", help="auto, cpu or cuda (default: auto)")
    command.set_defaults(handler="localize")


def _add_evaluate(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "evaluate",
        help="score a detection file under named evaluation protocols",
        description="Score ActivityNet-style detections against ActivityNet-style annotations. mAPs are percent.",
        epilog="examples:\n"
        "  wstal-bench evaluate detections.json --annotations thumos14/annotations.json --protocol all\n"
        "  wstal-bench evaluate detections.json --annotations anet13.json --subset validation \\\n"
        "      --tious 0.5:0.05:0.95 --json\n\n" + EXIT_CODES,
    )
    command.add_argument("detections", type=Path, metavar="DETECTIONS.json", help="{'results': {video: [...]}}")
    command.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="GT.json",
        help="file, or folder with annotations.json (and Ambiguous_test.txt)",
    )
    command.add_argument("--subset", metavar="S", help="subset of the annotations (default: the test subset)")
    command.add_argument(
        "--protocol",
        default="anet",
        metavar="P",
        help="a name of `wstal-bench ls protocols`, or all that apply (default: anet)",
    )
    command.add_argument("--tious", metavar="A:STEP:B", help="tIoU thresholds (default: the protocol's)")
    command.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    command.set_defaults(handler="evaluate")


def _add_data(commands: _Commands[_Parser]) -> None:
    data = commands.add_parser("data", help="check or convert a data set", description="Check or convert a data set.")
    actions = data.add_subparsers(title="actions", metavar="ACTION", required=True)
    verify = actions.add_parser(
        "verify",
        help="check every file of a data set",
        description="Check each feature file (shape, width, type, finite, length against duration), that every listed\n"
        "video is there, that labels are known, and the SHA-256 manifest where there is one.",
        epilog="example:\n  wstal-bench data verify ~/thumos14\n\n" + EXIT_CODES,
    )
    verify.add_argument("data", type=Path, metavar="DIR", help="folder with features/")
    verify.add_argument("--annotations", type=Path, metavar="PATH", help="file or folder (default: found beside DIR)")
    verify.add_argument("--descriptor", metavar="D", help="a shipped descriptor's name or a dataset.toml")
    verify.add_argument("--write-manifest", action="store_true", help="write DIR/SHA256SUMS of all feature files")
    verify.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    verify.set_defaults(handler="data_verify")
    convert = actions.add_parser(
        "convert",
        help="convert W-TALC's or HAAN's NumPy files into the folder layout",
        description="Convert W-TALC's joint object array of features and its annotation arrays, or HAAN's FineAction\n"
        "arrays, into the folder layout and ActivityNet-style JSON. Only here are pickled files read, by an\n"
        "unpickler that knows NumPy arrays and nothing else.",
        epilog="example:\n"
        "  wstal-bench data convert --annotations Thumos14reduced-Annotations \\\n"
        "      --features Thumos14reduced-I3D-JOINTFeatures.npy --out ~/thumos14\n\n" + EXIT_CODES,
    )
    convert.add_argument("--annotations", type=Path, required=True, metavar="DIR", help="folder of the .npy arrays")
    convert.add_argument("--features", type=Path, metavar="FILE", help="joint feature array (default: none)")
    convert.add_argument(
        "--class-names", type=Path, metavar="FILE", help="for HAAN's class numbers: a JSON object, number to name"
    )
    convert.add_argument(
        "--fps",
        type=float,
        default=25.0,
        metavar="N",
        help="frames a second at which the features were made (default: 25)",
    )
    convert.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder to make")
    convert.set_defaults(handler="data_convert")


def _add_ls(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "ls",
        help="list methods and their options, data sets and their keys, protocols or runs",
        description="List what is registered, shipped or stored.",
        epilog="examples:\n  wstal-bench ls protocols\n  wstal-bench ls options",
    )
    command.add_argument(
        "what",
        choices=("methods", "options", "datasets", "keys", "protocols", "rows", "runs"),
        help="options: what --set can change, with each method's THUMOS14 default; "
        "keys: of dataset.toml; rows: of the ablation plans",
    )
    command.add_argument("--store", type=Path, default=Path("runs"), metavar="STORE", help="for runs (default: runs)")
    command.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    command.set_defaults(handler="ls")


def _add_leaderboard(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "leaderboard",
        help="render leaderboards from the stored records",
        description="Render results/leaderboards/*.md from results/records/. The same records give the same bytes.",
        epilog="examples:\n  wstal-bench leaderboard\n  wstal-bench leaderboard --check\n\n" + EXIT_CODES,
    )
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    command.add_argument("--check", action="store_true", help="write nothing; exit 2 if a page is out of date")
    command.set_defaults(handler="leaderboard")


def _add_diagnose(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "diagnose",
        help="draw the training of finished runs: loss terms, memory bank, a method's other diagnostics",
        description="Draw each run's loss terms by step and its method's diagnostics by epoch (filled memory slots by\n"
        "class, cosines within and between classes) as RUN/diagnostics.svg, or DIR/ID.svg with the run's id.",
        epilog="examples:\n"
        "  wstal-bench diagnose runs/runs/RUN\n"
        "  wstal-bench diagnose runs/runs/thumos14-ours-* --out figures\n\n" + EXIT_CODES,
    )
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a finished run")
    command.add_argument("--out", type=Path, metavar="DIR", help="(default: each run's own folder)")
    command.set_defaults(handler="diagnose")


def _add_robustness(commands: _Commands[_Parser]) -> None:
    command = commands.add_parser(
        "robustness",
        help="measure how the contrastive losses bear wrong pairs, on planted clusters",
        description="Train linear embeddings of planted clusters (synthetic, no video) by InfoNCE and by Eq. 9 with\n"
        "pairs of which a known share is wrong, and write accuracies and what they say of the paper's claim to\n"
        "DIR/robustness.md and DIR/figures/robustness.svg. About two minutes on one core.",
        epilog="examples:\n  wstal-bench robustness\n  wstal-bench robustness --temperature 0.5 --out tau05 --json\n\n"
        + EXIT_CODES,
    )
    command.add_argument("--seeds", type=_count, default=5, metavar="N", help="seeds 0 to N-1, 2 or more (default: 5)")
    command.add_argument("--temperature", type=float, default=0.1, metavar="TAU", help="of the losses (default: 0.1)")
    command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    command.add_argument("--json", action="store_true", help="print JSON, and only that, on stdout")
    command.set_defaults(handler="robustness")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_THREADS:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MOST_THREADS}, got {text!r}")
    return int(text)


def _add_data_options(command: argparse.ArgumentParser, required: bool = False) -> None:
    group = command.add_argument_group("data")
    group.add_argument(
        "--data",
        type=Path,
        required=required,
        metavar="DIR",
        help="folder with features/ (default: the embedded synthetic data set)",
    )
    group.add_argument("--annotations", type=Path, metavar="PATH", help="file or folder (default: found beside DIR)")
    group.add_argument(
        "--descriptor",
        metavar="D",
        help="a shipped descriptor's name or a dataset.toml (default: DIR/dataset.toml, else recognised)",
    )
    group.add_argument(
        "--labels",
        choices=("official", "annotations"),
        default="official",
        help="where video-level training labels come from, if both exist (default: official)",
    )
    group.add_argument("--streams", nargs="+", metavar="S", help="use these feature streams only, for example rgb")
    group.add_argument("--allow-missing", action="store_true", help="go on with the videos that have features")


def _add_training_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("training")
    group.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="change options of the recipe, for example train.epochs=20",
    )
    group.add_argument(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="score this share of the training videos in place of the test set, to choose options",
    )
    group.add_argument("--full-size", action="store_true", help="synthetic data at 2048 columns and T = 750")
    group.add_argument(
        "--store", type=Path, default=Path("runs"), metavar="STORE", help="folder of runs (default: runs)"
    )
    group.add_argument("--device", default="auto", metavar="D", help="auto, cpu or cuda (default: auto)")
    group.add_argument(
        "--threads", type=_count, metavar="N", help="CPU threads a run (default: cores / jobs; 1 on synthetic data)"
    )
