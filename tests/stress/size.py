"""A data set of ActivityNet's size: seconds, peak memory and opened files of each stage of `data verify` and of a run.

`python -m tests.stress.size` makes a folder of made-up features, verifies it, trains an epoch, scores, localizes and
evaluates, each command in a fresh process, prints Markdown tables and removes the folder. Beside each stage stands what
its bytes take to be read, and its products to be multiplied at the peak of `torch.mm`, both measured in the same call.
`--videos 3000 14950 --classes 50 200` shows growth: one number varies, the other is its largest.

Videos that look alike are hard links to one file: the folder has the real number of files, of the real size, on little
disk. So what is read lies in the system's cache, for the stages and for what they are compared with.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

TRAINING = 10_024 / 14_950  # the share of ActivityNet 1.3's videos with public annotations
SECONDS = 0.64  # of a row
VARIANTS = 2  # different videos of a class in each subset
LOOK_SECONDS = 0.05  # between two looks at the memory: parts of stages may take turns within a millisecond
# an epoch at a recipe's rate learns too little to detect anything
SETTINGS = ("train.epochs=1", "train.learning_rate=0.01")
SAMPLED = 20  # of this many steps the products of one are counted
Stage = dict[str, float]


@dataclass(frozen=True)
class Size:
    """A folder's size and how much is planted in it.

    Args:
        videos: one file each.
        classes: action classes.
        width: feature columns.
        rows: mean rows of a video, which has half to one and a half times as many.
    """

    videos: int
    classes: int
    width: int
    rows: int

    @property
    def name(self) -> str:
        """For headings."""
        return f"{self.videos:,} videos, {self.classes} classes, about {self.rows} rows of {self.width} columns"


def write_folder(folder: Path, size: Size) -> None:
    """Write features and annotations of ActivityNet's family: noise, in which a class lifts some columns.

    Args:
        folder: an empty folder.
        size: what to write.
    """
    rng = np.random.default_rng(0)
    patterns = np.maximum(rng.standard_normal((size.classes, size.width), dtype=np.float32), 0)
    database: dict[str, Any] = {}
    train = round(size.videos * TRAINING)
    for subset, count in (("training", train), ("validation", size.videos - train)):
        inside = folder / "features" / subset
        inside.mkdir(parents=True)
        made: dict[int, tuple[Path, dict[str, Any]]] = {}
        for number in range(count):
            look, path = number % (VARIANTS * size.classes), inside / f"v_{subset}_{number:06d}.npy"
            if look in made:
                os.link(made[look][0], path)
            else:
                label = look % size.classes
                length = int(rng.integers(max(8, size.rows // 2), size.rows * 3 // 2 + 8))
                begin, end = sorted(rng.choice(length + 1, 2, replace=False).tolist())
                values = rng.random((length, size.width), dtype=np.float32)
                values[begin:end] += patterns[label]
                np.save(path, values)
                shown = [{"label": f"class {label:03d}", "segment": [begin * SECONDS, end * SECONDS]}]
                made[look] = path, {"subset": subset, "duration": length * SECONDS, "annotations": shown}
            database[path.stem.removeprefix("v_")] = made[look][1]
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    (folder / "dataset.toml").write_text(
        'extends = "activitynet13"\nname = "activitynet13-size"\ntitle = "Made up"\nextractor = "random numbers"\n'
        f'streams = [{{ name = "rgb", width = {size.width // 2} }}, {{ name = "flow", width = {size.width // 2} }}]\n'
        "class_digests = []\nlists = []\n"
    )


class Watch:
    """Stages of this process: seconds, seconds of the processor, peak memory, opened feature files, longest silence."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self._opened, self._silence = 0, 0.0
        sys.addaudithook(self._audit)
        write = sys.stderr.write

        def heard(text: str) -> int:
            self._hear()
            return write(text)

        sys.stderr.write = heard  # type: ignore[method-assign]
        self._begin = self._heard = self._looked = time.monotonic()
        self._worked = time.process_time()
        reset_peak()

    def lap(self, name: str) -> None:
        """End a stage, or a part of one that takes turns with others."""
        now, worked = time.monotonic(), time.process_time()
        stage = self.stages.setdefault(name, {"seconds": 0.0, "cpu": 0.0, "peak": 0.0, "opened": 0, "silence": 0.0})
        stage["seconds"] += now - self._begin
        stage["cpu"] += worked - self._worked
        stage["opened"] += self._opened
        stage["silence"] = max(stage["silence"], self._silence, now - self._heard)
        if now - self._looked >= LOOK_SECONDS or not stage["peak"]:
            stage["peak"] = max(stage["peak"], peak())
            reset_peak()
            self._looked = now
        self._begin, self._worked, self._opened, self._silence = now, worked, 0, 0.0

    def _hear(self) -> None:
        now = time.monotonic()
        self._silence, self._heard = max(self._silence, now - self._heard), now

    def _audit(self, event: str, details: tuple[Any, ...]) -> None:
        if event == "open" and str(details[0]).endswith(".npy"):
            self._opened += 1


def reset_peak() -> None:
    """Begin anew with the most memory that this process had."""
    if os.path.exists("/proc/self/clear_refs"):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Return the most megabytes that this process had since the peak began anew; NaN where there is no /proc."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else math.nan


def verify_stages(folder: Path) -> dict[str, Stage]:
    """Measure `data verify` in this process."""
    from harness.cli.main import main

    watch = Watch()
    watch.lap("imports")
    if code := main(["data", "verify", str(folder)]):
        sys.exit(code)
    watch.lap("verify")
    return watch.stages


def run_stages(folder: Path, store: Path, method: str, overrides: Sequence[str]) -> dict[str, Stage]:
    """Measure a run in this process, and count the products of its training and scoring.

    Args:
        folder: of the data set.
        store: an empty folder of runs.
        method: registered name.
        overrides: FIELD=VALUE.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from harness.records.files import DETECTIONS
    from harness.registry import load_method
    from harness.runs import execute, worker
    from harness.runs.request import DataRequest, RunRequest

    cls = load_method(method)
    original_lap, original_execute, losses = execute._Clock.lap, execute.execute, cls.losses
    trained: list[Any] = []
    forward, calls = 0, 0

    def lap(clock: Any, name: str) -> None:
        watch.lap(name)
        original_lap(clock, name)

    def planned(*arguments: Any) -> Any:
        watch.lap("open")
        return original_execute(*arguments)

    def counted(self: Any, batch: Any) -> Any:
        nonlocal forward, calls
        trained[:] = [self]
        calls += 1
        if calls % SAMPLED != 1:
            return losses(self, batch)
        with FlopCounterMode(display=False) as counter:
            terms = losses(self, batch)
        forward += counter.get_total_flops()
        return terms

    request = RunRequest(method=method, data=DataRequest(data=folder), overrides=tuple(overrides), store=store)
    watch = Watch()
    watch.lap("imports")
    with (
        patch.object(execute._Clock, "lap", lap),
        patch.object(worker, "execute", planned),
        patch.object(cls, "losses", counted),
    ):
        worker.do_run(request)
    watch.lap("write")
    # a backward pass multiplies twice what the forward pass does
    watch.stages["train"]["flop"] = 3 * forward * calls / -(-calls // SAMPLED)
    watch.stages["score"]["flop"] = _scoring_flop(trained[0], folder)
    found = gzip.decompress(next(store.glob(f"runs/*/{DETECTIONS}")).read_bytes())
    watch.stages["localize"]["detections"] = found.count(b'"segment"')
    return watch.stages


def _scoring_flop(method: Any, folder: Path) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    files = list((folder / "features" / "validation").iterdir())
    rows = round(sum(path.stat().st_size for path in files) / (4 * method.feature_dim * len(files)))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        method.score(torch.rand(rows, method.feature_dim))
    return float(counter.get_total_flops() * len(files))


def in_fresh_process(words: Sequence[str], threads: int) -> dict[str, Stage]:
    """Run this file with other arguments and return the stages that it prints.

    Args:
        words: the arguments.
        threads: of torch and NumPy.
    """
    from harness.runs.process_environment import process_environment

    environment = process_environment(threads)
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(words)}:\n{done.stderr}")
    stages: dict[str, Stage] = json.loads(done.stdout.splitlines()[-1])
    return stages


def reading(folder: Path) -> dict[str, float]:
    """Return the seconds of the processor that reading each subset's files once takes, one file after the other."""
    taken, buffer = {}, bytearray(2**20)
    for subset in ("training", "validation"):
        begin = time.process_time()
        for path in (folder / "features" / subset).iterdir():
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        taken[subset] = time.process_time() - begin
    return taken


@contextmanager
def measured(
    size: Size, method: str, overrides: Sequence[str], threads: int, parent: Path | None = None
) -> Iterator[dict[str, Stage]]:
    """Make a folder, measure every stage in it, and remove it with all that was written.

    Args:
        size: of the folder.
        method: registered name.
        overrides: FIELD=VALUE.
        threads: of torch and NumPy.
        parent: where the folder is made (default: the system's folder for temporary files).
    """
    with tempfile.TemporaryDirectory(prefix="wstal-size-", dir=parent) as name:
        folder, store = Path(name) / "data", Path(name) / "store"
        folder.mkdir()
        write_folder(folder, size)
        taken = reading(folder)
        stages = in_fresh_process(["--stages", "verify", str(folder)], threads)
        imports = stages.pop("imports")
        stages |= in_fresh_process(["--stages", "run", str(folder), str(store), method, *overrides], threads)
        stages["imports"] = {key: max(value, imports[key]) for key, value in stages["imports"].items()}
        whole = sum(taken.values())
        for stage, seconds in {
            "verify": whole, "open": whole, "check": whole, "train": taken["training"], "score": taken["validation"],
        }.items():  # fmt: skip
            stages[stage]["read"] = seconds
        yield stages


def table(stages: Mapping[str, Stage], size: Size, peak_rate: float) -> str:
    """Return a Markdown table of the stages.

    Args:
        stages: as `measured` gives them.
        size: of the folder.
        peak_rate: FLOP/s of this machine.
    """
    lines = [
        "| stage | s | CPU s | reading alone, CPU s | multiplying alone, CPU s | peak MB | opened a file | silence, s |"
    ]
    lines.append("|---" * 8 + "|")
    for name, stage in stages.items():
        read = f"{stage['read']:.1f}" if "read" in stage else ""
        multiply = f"{stage['flop'] / peak_rate:.1f}" if "flop" in stage else ""
        lines.append(
            f"| {name} | {stage['seconds']:.1f} | {stage['cpu']:.1f} | {read} | {multiply} | {stage['peak']:,.0f} "
            f"| {stage['opened'] / size.videos:.2f} | {stage['silence']:.1f} |"
        )
    return "\n".join(lines)


def growth(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the exponent b of value = a * size^b, through the first and the last."""
    return math.log(values[-1] / values[0]) / math.log(sizes[-1] / sizes[0])


def growth_table(what: str, sizes: Sequence[int], found: Sequence[Mapping[str, Stage]]) -> str:
    """Return a Markdown table of how seconds and memory of each stage grow.

    Args:
        what: the number that varies.
        sizes: its values, ascending.
        found: the stages at each.
    """
    lines = [f"| stage | CPU s at {', '.join(f'{size:,}' for size in sizes)} {what} | grows as n^ | peak MB |"]
    lines.append("|---" * 4 + "|")
    for name in found[-1]:
        seconds = [max(stages[name]["cpu"], 1e-3) for stages in found]
        peaks = [stages[name]["peak"] for stages in found]
        lines.append(
            f"| {name} | {', '.join(f'{value:.1f}' for value in seconds)} | {growth(sizes, seconds):.2f} "
            f"| {', '.join(f'{value:,.0f}' for value in peaks)} |"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> None:
    """Measure at each size and print the tables."""
    from tests.benchmarks.hardware import Machine  # not above: it imports torch, and what is measured starts here too

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[14_950], metavar="N", help="ascending")
    parser.add_argument("--classes", type=int, nargs="+", default=[200], metavar="N", help="ascending")
    parser.add_argument("--width", type=int, default=64, metavar="N", help="columns (ActivityNet's I3D: 2048)")
    parser.add_argument("--rows", type=int, default=100, metavar="N", help="mean rows of a video")
    parser.add_argument("--method", default="acmnet", metavar="M", help="of the run")
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE", help="options of the run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="of torch (default: cores)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the data are made and removed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the stages to it too")
    given = parser.parse_args(words)
    videos, classes, found = given.videos[-1], given.classes[-1], {}
    sizes = [Size(number, classes, given.width, given.rows) for number in given.videos]
    sizes += [Size(videos, number, given.width, given.rows) for number in given.classes[:-1]]
    rate = Machine(time.process_time).peak()
    overrides = [*SETTINGS, *given.set]
    print(
        f"{given.method}, {' '.join(overrides)}, {given.threads} threads, torch.mm {rate / 1e9:.0f} GFLOP/s", flush=True
    )
    for size in sizes:
        with measured(size, given.method, overrides, given.threads, given.folder) as stages:
            found[size] = stages
        print(f"\n{size.name}, {stages['localize']['detections']:,.0f} detections:\n")
        print(table(stages, size, rate), flush=True)
    for what, numbers, of in (
        ("videos", given.videos, sizes[: len(given.videos)]),
        ("classes", given.classes, [*sizes[len(given.videos) :], sizes[len(given.videos) - 1]]),
    ):
        if len(numbers) > 1:
            print(f"\n{growth_table(what, numbers, [found[size] for size in of])}")
    if given.json:
        given.json.write_text(json.dumps([asdict(size) | {"stages": stages} for size, stages in found.items()]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--stages", "verify", data]:
            print(json.dumps(verify_stages(Path(data))))
        case ["--stages", "run", data, store, method, *overrides]:
            print(json.dumps(run_stages(Path(data), Path(store), method, overrides)))
        case _:
            main()
