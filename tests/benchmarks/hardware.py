"""What the benchmarks are measured against: this machine's peaks; and how a saved run names the machine.

`python -m tests.benchmarks.hardware` prints that name.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from harness.runs.environment import cpu_name

SIZES = (1024, 1536, 2048, 3072)
COMMIT = ("id", "time", "dirty")


def slug(name: str) -> str:
    """A processor's name as a part of a file name: letters, digits and hyphens.

    >>> slug("Intel(R) Xeon(R) CPU @ 2.20GHz, 4 cores")
    'intel-xeon-2-20ghz-4-cores'
    """
    words = re.sub(r"\((r|tm)\)|\b(cpu|processor)\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def facts() -> dict[str, Any]:
    """What a saved run says of the machine: nothing that names its host, its user or their folders."""
    return {
        "cpu": cpu_name(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "threads": torch.get_num_threads(),
    }


def strip(saved: dict[str, Any]) -> None:
    """Drop from a run that is about to be saved where its code lay, what its names say too, and digits of no worth."""
    saved["commit_info"] = {key: saved["commit_info"].get(key) for key in COMMIT}
    for benchmark in saved["benchmarks"]:
        benchmark["options"] = {"timer": benchmark["options"]["timer"]}
        del benchmark["params"], benchmark["param"]
        for values in (benchmark["stats"], benchmark["extra_info"]):
            values.update({key: float(f"{value:.6g}") for key, value in values.items() if isinstance(value, float)})


class Machine:
    """Measured peaks, by the number of threads that torch has when they are asked for.

    Args:
        clock: seconds; the benchmarks' own, so that fractions hold under any.
        copied: float32 numbers that are copied for the bandwidth, far more than a cache holds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter, copied: int = 2**26) -> None:
        self._clock, self._copied = clock, copied
        self._found: dict[tuple[str, int], float] = {}

    def peak(self) -> float:
        """FLOP/s of the fastest float32 `torch.mm`, of some sizes.

        Convolutions are of another library (oneDNN) and may pass it: on an AMD EPYC, forward, by 14 %.
        """
        return self._once("peak", lambda: max(self._product(size) for size in SIZES))

    def bandwidth(self) -> float:
        """Bytes a second of a large copy, reads and writes both counted."""

        def measure() -> float:
            source, target = torch.ones(self._copied), torch.ones(self._copied)
            return 2 * source.nbytes / self._best(lambda: target.copy_(source))

        return self._once("bandwidth", measure)

    def _product(self, size: int) -> float:
        first, second, out = torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)
        return 2 * size**3 / self._best(lambda: torch.mm(first, second, out=out))

    def _best(self, function: Callable[[], Any], turns: int = 3) -> float:
        taken = []
        for _ in range(turns):
            begin = self._clock()
            function()
            taken.append(self._clock() - begin)
        return min(taken[1:])

    def _once(self, name: str, measure: Callable[[], float]) -> float:
        key = (name, torch.get_num_threads())
        if key not in self._found:
            self._found[key] = measure()
        return self._found[key]


if __name__ == "__main__":
    print(slug(cpu_name()))
