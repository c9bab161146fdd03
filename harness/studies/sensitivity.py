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

import torch
from pydantic import ConfigDict, Field

from harness.records.grouping import average
from harness.records.words import widest_average
from harness.runs.environment import machine
from harness.runs.request import RunRequest
from harness.studies.determinism import run_once
from harness.studies.stored import Percent, StoredModel, StudyFile
from wstal.errors import UserError

Variant = Literal["reference", "threads", "processor", "precision"]
ORDER: tuple[Variant, ...] = get_args(Variant)
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

    @classmethod
    def of(cls, runs: Iterable[SensitivityRun]) -> SensitivityFile:
        """Return the file of these runs, in its order."""
        return cls(runs=sorted(runs, key=_order))

    def with_runs(self, runs: Iterable[SensitivityRun]) -> SensitivityFile:
        """Return the file with more runs of one method on one data set.

        They replace those of the same variant and seed, and all of the method there by another schedule or version.
        """
        added = list(runs)
        subjects, settings, same = ({key(run) for run in added} for key in (_subject, _setting, _cell))
        kept = [
            run
            for run in self.runs
            if _subject(run) not in subjects or (_setting(run) in settings and _cell(run) not in same)
        ]
        return SensitivityFile.of([*kept, *added])


def _subject(run: SensitivityRun) -> tuple[str, str]:
    return run.data, run.method


def _setting(run: SensitivityRun) -> tuple[object, ...]:
    return *_subject(run), run.epochs, run.options, run.package, run.torch, run.cpu


def _cell(run: SensitivityRun) -> tuple[object, ...]:
    return *_subject(run), run.variant, run.seed


def _order(run: SensitivityRun) -> tuple[bool, str, str, int, int]:
    return run.synthetic, run.data, run.method, ORDER.index(run.variant), run.seed


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
        UserError: a run refused its input, the options state the precision, or this processor has no wider
            instructions than an older one.
        RunError: a run failed.
    """
    if any(option.partition("=")[0].strip() == PRECISION.partition("=")[0] for option in request.overrides):
        raise UserError("The precision is what is compared: leave train.precision out of --set.")
    if "processor" in variants and (here := torch.backends.cpu.get_cpu_capability()) in ("AVX2", "DEFAULT", "NO AVX"):
        raise UserError(
            f"This processor's widest instructions are {here}, so there is nothing to switch off: name the other "
            "variants, --variants threads precision."
        )
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
    changed = {"threads": threads, "overrides": (*request.overrides, *precision), "device": "cpu"}
    asked = request.model_copy(update=changed)
    record = run_once(asked, OLDER_PROCESSOR if variant == "processor" else {}).record
    here = machine()
    return SensitivityRun(
        data=record.data.title,
        synthetic=record.synthetic,
        method=record.method,
        title=record.title,
        epochs=int(str(record.recipe.train["epochs"])),
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
