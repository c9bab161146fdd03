"""Check of determinism: repeats of a run in fresh processes, compared file by file.

Repeats are what a user's runs are: processes that set torch's deterministic algorithms (strictly on the CPU; on CUDA,
where some operators have none, with a warning that names each). Each has an interpreter, a hash seed and a store of its
own, so none reuses anything of another.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from harness.io.encoding import sha256_file
from harness.records.diff import diff
from harness.records.files import FIGURE, RECORD, SCORES, WEIGHTS
from harness.records.run_folder import FinishedRun
from harness.records.schema import Record
from harness.records.store import Store
from harness.runs.request import RunRequest
from harness.sweeps.engines import run_process
from wstal.errors import MissingDataError, RunError, UserError

# every phase of every method comes: those that begin late begin at a share of the epochs
QUICK = ("train.epochs=6", "train.temporal_length=64")
WITHOUT = re.compile(r"(\S+) does not have a deterministic implementation")

Kind = Literal["repeat", "seed", "threads"]


@dataclass(frozen=True)
class Run:
    """Finished run of a check.

    Args:
        folder: its files.
        record: its record.
        threads: CPU threads.
        operators: those that warned of having no deterministic implementation.
    """

    folder: Path
    record: Record
    threads: int
    operators: frozenset[str]


@dataclass(frozen=True)
class Pair:
    """Two runs side by side.

    Args:
        method: of both.
        kind: `repeat` (nothing differs: the bits have to agree), `seed` (another seed: they have to differ), or
            `threads` (another number of threads: reported, not judged).
        threads: of the second run.
        beside: the first run, for people.
        detections: of the second run; without any, the localizer was hardly put to the test.
        first: the first file that differs, in the order in which a run writes them; None where all agree.
        tensor: of the weights, the first by name that differs.
        weights: largest difference of a weight; None where the files agree, or the tensors cannot be subtracted.
        scores: the same of a snippet score.
        points: largest move of mAP under the headline protocol.
        reason: what `harness.records.diff` finds in repeats that differ.
    """

    method: str
    kind: Kind
    threads: int
    beside: str
    detections: int
    first: str | None
    tensor: str | None = None
    weights: float | None = None
    scores: float | None = None
    points: float = 0.0
    reason: str = ""

    @property
    def good(self) -> bool:
        """True where the pair is as it has to be."""
        return self.kind == "threads" or (self.first is None) == (self.kind == "repeat")

    @property
    def complaint(self) -> str:
        """Fault of a pair that is not as it has to be."""
        if self.kind == "seed":
            return "another seed gave the same files: the seed decides nothing"
        if self.weights is not None:
            return f"{self.first} differs first, in {self.tensor}, by {self.weights:.1e} at most; {self.reason}"
        return f"{self.first} differs first; {self.reason}"


@dataclass(frozen=True)
class DeterminismCheck:
    """Result of comparing a method's runs.

    Args:
        pairs: compared runs.
        device: where they ran.
        operators: without a deterministic implementation on CUDA, by name; None where the runs were not on CUDA.
    """

    pairs: list[Pair]
    device: str
    operators: list[str] | None

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values, of each pair also whether it is as it has to be."""
        pairs = [asdict(pair) | {"good": pair.good} for pair in self.pairs]
        return {"device": self.device, "operators": self.operators, "pairs": pairs}


def check_determinism(
    request: RunRequest, threads: Sequence[int], repeats: int, say: Callable[[str], None]
) -> DeterminismCheck:
    """Run a method several times and compare.

    Args:
        request: the run; another one with the next seed is the control.
        threads: numbers of CPU threads; the runs of the first are what the others are compared with.
        repeats: runs at each number of threads.
        say: called with a line before each run.

    Raises:
        UserError: a run refused its input.
        RunError: a run failed.
    """

    def run(seed: int, count: int, number: int) -> Run:
        total = repeats if seed == request.seed else 1
        say(f"{request.method}: seed {seed}, {count} thread(s), run {number + 1} of {total}")
        store = Path(folder, f"{seed}-{count}-{number}")
        return run_once(request.model_copy(update={"seed": seed, "threads": count, "store": store}))

    # weights may be large: they are removed as soon as a method's are compared
    with tempfile.TemporaryDirectory(prefix="wstal-bench-check-", ignore_cleanup_errors=True) as folder:
        runs = {count: [run(request.seed, count, number) for number in range(repeats)] for count in threads}
        control = run(request.seed + 1, threads[0], 0)
        reference = runs[threads[0]][0]
        pairs = [compare("repeat", first, other) for first, *others in runs.values() for other in others]
        pairs.append(compare("seed", reference, control))
        pairs += [compare("threads", reference, runs[count][0]) for count in threads[1:]]
    device = reference.record.environment.device
    operators = {operator for repeated in runs.values() for run in repeated for operator in run.operators}
    return DeterminismCheck(pairs, device, None if device == "cpu" else sorted(operators))


def run_once(request: RunRequest, environment: Mapping[str, str] = MappingProxyType({})) -> Run:
    """Do one run in a fresh process and a store of its own.

    Args:
        request: the run.
        environment: variables of the process besides its usual ones.

    Raises:
        UserError: it refused its input; the message is its own.
        RunError: it failed.
    """
    outcome = run_process(request, environment=environment)
    if outcome.code != 0:
        if refused := {cls.exit_code: cls for cls in (UserError, MissingDataError)}.get(outcome.code or 0):
            raise refused(re.split(r"^error: ", outcome.stderr_tail, flags=re.MULTILINE)[-1])
        raise RunError(f"`{request.command_line()}` failed {outcome.summary}")
    (folder,) = Store(request.store).finished()
    record = FinishedRun.open(folder).record
    return Run(folder, record, record.environment.threads, frozenset(WITHOUT.findall(outcome.stderr_tail)))


def compare(kind: Kind, first: Run, second: Run) -> Pair:
    """Compare two runs file by file, of repeats also record and figure, which name seed and threads.

    Args:
        kind: how the two runs differ.
        first: what the second is compared with.
        second: the other run.
    """
    names = [*first.record.artefacts, *([FIGURE, RECORD] if kind == "repeat" else [])]
    other = [name for name in names if sha256_file(first.folder / name) != sha256_file(second.folder / name)]
    tensor, weights = _differing(first.folder, second.folder, WEIGHTS) if WEIGHTS in other else (None, None)
    found = diff(first.record, second.record)
    moves = [abs(gap.mean_ap) for gap in found.metrics if gap.protocol == first.record.headline and gap.mean_ap]
    beside = {"repeat": "its repeat", "seed": f"seed {first.record.seed}", "threads": f"{first.threads} thread(s)"}
    reason = found.cause or f"the record's environment: {', '.join(found.environment) or 'nothing on record'}"
    return Pair(
        second.record.method,
        kind,
        second.threads,
        beside[kind],
        second.record.found,
        other[0] if other else None,
        tensor,
        weights,
        _differing(first.folder, second.folder, SCORES)[1] if SCORES in other else None,
        max(moves, default=0.0),
        reason if other and kind == "repeat" else "",
    )


def _differing(first: Path, second: Path, name: str) -> tuple[str | None, float | None]:
    """Return the first tensor by name of two safetensors files whose bits differ, and the largest difference of any."""
    unlike, gaps = [], []
    with safe_open(first / name, "pt") as one, safe_open(second / name, "pt") as other:  # one by one: scores are large
        names = set(one.keys()), set(other.keys())
        for key in sorted(names[0] | names[1]):
            pair = [file.get_tensor(key) if key in own else None for file, own in zip((one, other), names, strict=True)]
            if _same_bits(*pair):
                continue
            unlike.append(key)
            if pair[0] is not None and pair[1] is not None and pair[0].shape == pair[1].shape:
                gaps.append(_largest(pair[0], pair[1]))
    return next(iter(unlike), None), max(gaps, default=None)


def _same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    """Return whether two tensors have the same bits, also of NaN and of -0."""
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def _largest(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, infinite where only one of two values is a number."""
    gap = (one.double() - other.double()).abs()
    return float(gap.nan_to_num(nan=torch.inf).max())


def rows(checks: Iterable[DeterminismCheck]) -> list[dict[str, str]]:
    """Return a table row per pair, for people."""
    return [
        {
            "method": pair.method,
            "threads": str(pair.threads),
            "beside": pair.beside,
            "bits": _verdict(pair),
            "first difference": ", ".join(filter(None, (pair.first, pair.tensor))),
            "weights": _size(pair.weights),
            "scores": _size(pair.scores),
            "mAP": _size(pair.points or None),
            "detections": str(pair.detections),
        }
        for check in checks
        for pair in check.pairs
    ]


def _verdict(pair: Pair) -> str:
    """Return whether the bits agree, in capitals where they have to do otherwise."""
    bits = "agree" if pair.first is None else "differ"
    return bits if pair.good else bits.upper()


def _size(difference: float | None) -> str:
    return "" if difference is None else f"{difference:.1e}"
