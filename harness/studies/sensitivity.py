"""Study of how far a method's result moves by its seed, and by the threads, processor and precision that compute it.

The computation is the same in exact arithmetic: what moves the result is rounding, which training amplifies. An older
processor is this one with its widest vector instructions switched off, which changes the order of sums as another one
would.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field

from harness.records.grouping import average
from harness.records.words import widest_average
from harness.runs.environment import machine
from harness.runs.request import RunRequest
from harness.studies.determinism import run_once
from harness.studies.stored import Percent, StoredModel, StudyFile

Variant = Literal["reference", "threads", "processor", "precision"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
OLDER_PROCESSOR = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
PRECISION = "train.precision=bfloat16"
Words = Annotated[str, Field(min_length=1)]


class SensitivityRun(StoredModel):
    """Result of one run."""

    model_config = ConfigDict(strict=True)

    data: Words = Field(description="title of the data set")
    synthetic: bool
    method: Words = Field(description="registered name")
    title: Words = Field(description="of the method")
    epochs: int = Field(ge=1, description="of the training")
    options: str = Field(description="the user's, as NAME=VALUE; none where the schedule is the data set's own")
    variant: Variant = Field(description="what differs from the reference, which is of one thread and float32")
    seed: int = Field(ge=0)
    average: Percent = Field(description="mean mAP of the last checkpoint over the headline protocol's widest range")
    tious: Words = Field(description="that range")
    commit: str | None = Field(description="of the code; null outside a checkout")
    package: Words = Field(description="version of wstal-bench")
    torch: Words
    cpu: Words
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="UTC")


class SensitivityFile(StudyFile):
    """Runs of several methods and data sets."""

    FILE: ClassVar[str] = "sensitivity.json"
    REMEDY: ClassVar[str] = "Measure it again with `wstal-bench debug sensitivity`."

    version: Literal[1] = Field(1, alias="schema")
    runs: Annotated[list[SensitivityRun], Field(min_length=1)]

    def with_runs(self, runs: Iterable[SensitivityRun]) -> SensitivityFile:
        """Return the file with more runs, which replace those of their method and data set."""
        added = list(runs)
        replaced = {(run.data, run.method) for run in added}
        kept = [run for run in self.runs if (run.data, run.method) not in replaced]
        return SensitivityFile(runs=sorted([*kept, *added], key=_order))


def _order(run: SensitivityRun) -> tuple[bool, str, str, int, int]:
    return run.synthetic, run.data, run.method, VARIANTS.index(run.variant), run.seed


def measure(
    request: RunRequest, seeds: Sequence[int], variants: Sequence[Variant], say: Callable[[str], None]
) -> list[SensitivityRun]:
    """Run a method with several seeds by the reference and by each variant, every run in a fresh process.

    Args:
        request: the run; its seed, threads and store are set here.
        seeds: of the runs.
        variants: besides the reference.
        say: called with a line before each run.

    Raises:
        UserError: a run refused its input.
        RunError: a run failed.
    """
    found = []
    chosen: list[Variant] = ["reference", *variants]
    planned = [(variant, seed) for variant in chosen for seed in seeds]
    for number, (variant, seed) in enumerate(planned, 1):
        say(f"{request.method}: {variant}, seed {seed} ({number} of {len(planned)})")
        with tempfile.TemporaryDirectory(prefix="wstal-bench-sensitivity-", ignore_cleanup_errors=True) as folder:
            found.append(_run(request.model_copy(update={"seed": seed, "store": Path(folder)}), variant))
    return found


def _run(request: RunRequest, variant: Variant) -> SensitivityRun:
    precision = (PRECISION,) if variant == "precision" else ()
    threads = 2 if variant == "threads" else 1
    asked = request.model_copy(update={"threads": threads, "overrides": (*request.overrides, *precision)})
    record = run_once(asked, OLDER_PROCESSOR if variant == "processor" else {}).record
    here = machine()
    return SensitivityRun(
        data=record.data.title,
        synthetic=record.synthetic,
        method=record.method,
        title=record.title,
        epochs=record.recipe.train["epochs"],
        options=" ".join(request.overrides),
        variant=variant,
        seed=record.seed,
        average=average(record),
        tious=widest_average(record.scored.averages),
        commit=here["commit"],
        package=version("wstal-bench"),
        torch=here["packages"]["torch"],
        cpu=here["cpu"],
        date=time.strftime("%Y-%m-%d", time.gmtime()),
    )


def moves(runs: Iterable[SensitivityRun]) -> Mapping[Variant, list[float]]:
    """Return how far each variant moves the result of the reference's seeds, in mAP points, of one method's runs."""
    by_variant: dict[Variant, dict[int, float]] = {}
    for run in runs:
        by_variant.setdefault(run.variant, {})[run.seed] = run.average
    reference = by_variant.pop("reference", {})
    return {
        variant: [values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())]
        for variant, values in by_variant.items()
    }
