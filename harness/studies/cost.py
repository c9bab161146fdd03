"""Cost study: parameters, multiply-adds, peak memory and time of one training or test step of each method."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.paper.profile import STAGES, WIDTH, ProfileCost, Stage, profile_costs
from harness.random_streams import seed_torch
from harness.registry import load_method, method_entries
from harness.runs.environment import environment
from harness.runs.process_environment import KEEP_MEMORY
from harness.studies.cost_counting import count, parameter_count
from harness.studies.stored import StoredModel, StudyFile
from wstal.errors import RunError, UserError
from wstal.memory import MemoryBank
from wstal.method import Method, Recipe
from wstal.streams import StreamOptions
from wstal.types import Batch, CountedBatch

COUNTERS = ("fvcore", "torchinfo")
REPEATS = 5
EPOCHS = 100


@dataclass(frozen=True)
class Setting:
    """Input of Table IX.

    Args:
        dataset: family name, which decides the recipe.
        length: T.
        classes: C.
    """

    dataset: str
    length: int
    classes: int


SETTINGS = (Setting("thumos14", 750, 20), Setting("activitynet13", 75, 200), Setting("fineaction", 400, 106))


class StepCost(StoredModel):
    """Cost of a step at batch 1: multiply-adds of the forward pass, time and memory of the whole step."""

    stage: Stage
    dataset: str
    length: PositiveInt
    """T."""
    classes: PositiveInt
    """C."""
    parameters: PositiveInt
    """All of the method's in training, those that scoring reads in testing."""
    macs: PositiveInt
    """fvcore's count."""
    torch_macs: PositiveInt
    """Half of the count of torch's counter."""
    operators: dict[str, NonNegativeInt]
    """fvcore's count by operator; the sum is `macs`."""
    unsupported: dict[str, PositiveInt]
    """Number of runs of each operator that fvcore does not count."""
    peak_mb: PositiveFloat | None
    """Most megabytes that the method, its optimiser and its step added to a fresh process, where glibc keeps freed
    memory as in the main job; None where the system does not report it."""
    ms: PositiveFloat
    """Milliseconds, median of five: training with backward pass and optimiser, testing without localizer."""


class MethodCost(StoredModel):
    """Cost of a method's steps, and the environment that it was measured in."""

    title: str
    environment: dict[str, Any]
    load: NonNegativeFloat | None = None
    """Mean load of the system over the minute before the measurement: it shows other work, and the method measured just
    before. None where the system does not report it."""
    rows: Annotated[list[StepCost], Field(min_length=1)]


class CostFile(StudyFile):
    """Cost of methods at the inputs of Table IX, beside the paper's profile."""

    FILE: ClassVar[str] = "cost.json"
    REMEDY: ClassVar[str] = "Remove it and measure again with `wstal-bench paper cost`."

    version: Literal[1] = Field(alias="schema")
    profile: list[ProfileCost]
    methods: dict[str, MethodCost]


def store_cost(path: Path, name: str, measured: MethodCost) -> CostFile:
    """Write a method's measurement beside those of the other installed methods, and the profile of Table IX.

    Args:
        path: the cost file.
        name: of the method.
        measured: its measurement.

    Raises:
        UserError: there is a file and it is damaged.
        StoreError: it cannot be written.
    """
    before = CostFile.load(path).methods if path.exists() else {}
    methods = {other: cost for other, cost in before.items() if other in method_entries()} | {name: measured}
    cost = CostFile(schema=1, profile=list(profile_costs()), methods=dict(sorted(methods.items())))
    cost.store(path)
    return cost


def measure(name: str, progress: Callable[[str], None] = lambda line: None) -> MethodCost:
    """Measure all steps of a method at Table IX's inputs, each in a fresh process, one after the other.

    Args:
        name: a registered method.
        progress: called with a line before each step.

    Raises:
        UserError: no such method, or one that trains on windows with times, which Table IX's inputs do not have.
        RunError: a step fails, or its multiply-adds cannot be counted.
    """
    title = load_method(name).title
    if load_method(name).supervision == "full":
        raise UserError(f"{name} is fully supervised: Table IX counts weak methods. Take one of `ls methods`.")
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    rows = []
    for stage in STAGES:
        for setting in SETTINGS:
            progress(f"{name}: {stage}, {setting.dataset}, [1, {setting.length}, {WIDTH}]")
            rows.append(_in_fresh_process(name, stage, setting))
    return MethodCost(title=title, environment=_environment(name), load=load, rows=rows)


def _environment(name: str) -> dict[str, Any]:
    found = environment(torch.device("cpu"), name)
    return found | {"packages": found["packages"] | {package: version(package) for package in COUNTERS}}


def _in_fresh_process(name: str, stage: Stage, setting: Setting) -> StepCost:
    # memory that a process used before would hide a step's; glibc keeps freed memory as in the main job
    done = subprocess.run(
        [sys.executable, "-m", "harness.studies.cost", name, stage, setting.dataset],
        capture_output=True,
        text=True,
        env=os.environ | KEEP_MEMORY,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"the process ended with {done.returncode}"]
        raise RunError(f"Cannot measure {name} ({stage}, {setting.dataset}, T = {setting.length}): {last[0]}")
    return StepCost.model_validate_json(done.stdout)


def _main(name: str, stage: Stage, dataset: str) -> None:
    """Measure one step in this process and print it as JSON."""
    cls = load_method(name)
    setting = next(setting for setting in SETTINGS if setting.dataset == dataset)
    # a small step first, so that imports and the libraries' own memory are not counted
    _timed_step(cls, stage, Setting(dataset, 8, 4), 16)()
    before = _memory("VmRSS")
    step = _timed_step(cls, stage, setting, WIDTH)
    step()
    ms = median(_milliseconds(step) for _ in range(REPEATS))
    after = _memory("VmHWM")
    del step
    peak = None if before is None or after is None else round((after - before) / 1e6, 1)
    print(json.dumps(count_step(cls, stage, setting, WIDTH) | {"peak_mb": peak, "ms": round(ms, 2)}))


def _timed_step(cls: type[Method], stage: Stage, setting: Setting, width: int) -> Callable[[], None]:
    method, recipe = build(cls, stage, setting, width)
    features, labels = example(setting, width)
    if stage == "test":

        @torch.no_grad()
        def score() -> None:
            method.score(features[0])

        return score
    optimizers = method.optimizers(recipe.train)
    batch = as_batch(method, features, labels)

    def train() -> None:
        total = method.losses(batch)["total"]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        method.end_step()

    return train


def _milliseconds(step: Callable[[], None]) -> float:
    begin = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - begin)


def _memory(field: str) -> int | None:
    """Return the bytes of this process under the kernel's name (VmRSS, VmHWM); None where there is no /proc."""
    status = Path("/proc/self/status")
    found = re.search(rf"{field}:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else None


def example(setting: Setting, width: int) -> tuple[Tensor, Tensor]:
    """Draw features `[1, T, width]` and labels `[1, C]` of one class.

    Args:
        setting: T and C.
        width: columns of the features.
    """
    seed_torch(0, "cost")
    labels = torch.zeros(1, setting.classes)
    labels[0, 0] = 1
    return torch.rand(1, setting.length, width), labels


def as_batch(method: Method, features: Tensor, labels: Tensor) -> Batch:
    """Join examples to a batch, with one instance a label where the method needs counts.

    Args:
        method: that gets the batch.
        features: `[B, T, D]`.
        labels: `[B, C]`.
    """
    names = tuple(map(str, range(len(features))))
    if method.supervision == "weak+count":
        return CountedBatch(features, labels, names, counts=labels)
    return Batch(features, labels, names)


def build(cls: type[Method], stage: Stage, setting: Setting, width: int) -> tuple[Method, Recipe]:
    """Build a method by its recipe for the data set.

    In training it is as in its last epoch, with full memory banks; in testing as before stored weights are loaded,
    since time and memory do not depend on them.

    Args:
        cls: the method.
        stage: training or testing.
        setting: data set and classes.
        width: columns of the features.
    """
    seed_torch(0, "initialisation")
    recipe = cls.recipe(setting.dataset)
    options = recipe.method
    if isinstance(options, StreamOptions):
        options = options.model_copy(update={"streams": (width // 2, width // 2)})
    method = cls(options, width, setting.classes)
    if stage == "test":
        return method.eval(), recipe
    for module in method.modules():
        if isinstance(module, MemoryBank):
            module.slots.uniform_()
            module.filled.fill_(module.slots.shape[1])
    method.train()
    features, labels = example(setting, width)
    # a step before, so that all that starts with an epoch or after a step is there
    method.start_epoch(EPOCHS - 2, EPOCHS)
    method.losses(as_batch(method, features, labels))["total"].backward()  # type: ignore[no-untyped-call]
    method.end_step()
    method.zero_grad(set_to_none=True)
    method.start_epoch(EPOCHS - 1, EPOCHS)
    return method, recipe


class _Pass(nn.Module):
    """Forward pass of a step, as the module that counters take: losses of a batch, or scores of a video."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, features: Tensor, labels: Tensor | None = None) -> tuple[Tensor, ...]:
        if labels is not None:
            return tuple(self.method.losses(as_batch(self.method, features, labels)).values())
        scores = self.method.score(features)
        return (*scores.signals.values(), scores.video_scores, *scores.class_scores.values())


def count_step(cls: type[Method], stage: Stage, setting: Setting, width: int) -> dict[str, Any]:
    """Return the fields of `StepCost` that are counted, not measured.

    Args:
        cls: the method.
        stage: training or testing.
        setting: the input.
        width: columns of the features.

    Raises:
        RunError: an operator without a handle is not negligible, or the two counters disagree.
    """
    method, _ = build(cls, stage, setting, width)
    features, labels = example(setting, width)
    if stage == "train":
        counted = count(_Pass(method), (features, labels), cls.name)
        parameters = parameter_count(method)
    else:
        with torch.no_grad():
            counted = count(_Pass(method), (features[0],), cls.name)
            with _ParametersRead() as read:
                method.score(features[0])
        parameters = sum(parameter.numel() for parameter in read.found.values())
    return {"stage": stage, "parameters": parameters, "macs": counted.macs} | asdict(setting) | asdict(counted)


class _ParametersRead(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Recorder of the parameters that operators take, by identity."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: dict[int, nn.Parameter] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in (*args, *(kwargs or {}).values()):
            for item in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(item, nn.Parameter):
                    self.found[id(item)] = item
        return func(*args, **(kwargs or {}))


if __name__ == "__main__":
    try:
        _main(*sys.argv[1:])  # type: ignore[arg-type]
    except UserError as error:
        sys.exit(f"error: {error}")
