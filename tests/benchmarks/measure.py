"""How the benchmarks measure: everything that is compared takes turns in one run, and medians count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.hardware import Machine

ROUNDS = 5


def in_turns(
    benchmark: Any,
    ours: Callable[[], Any],
    others: Mapping[str, Callable[[], Any]] | None = None,
    rounds: int = ROUNDS,
    warm: int = 1,
) -> dict[str, float]:
    """Median seconds of `ours`, which the benchmark's table shows, and of the others, which run between its rounds.

    Ratios to the others go to `extra_info`: how many times faster `ours` is. Without measuring (`--benchmark-disable`)
    each runs once, and nothing is returned.
    """
    taken: dict[str, list[float]] = {name: [] for name in others or {}}

    def time_the_others() -> None:
        for name, function in (others or {}).items():
            begin = benchmark._timer()
            function()
            taken[name].append(benchmark._timer() - begin)

    benchmark.pedantic(ours, setup=time_the_others, rounds=rounds, warmup_rounds=warm)
    if benchmark.stats is None:
        return {}
    found = {"ours": benchmark.stats.stats.median} | {name: median(taken[name][warm:][:rounds]) for name in taken}
    benchmark.extra_info.update({f"times_faster_than_{name}": found[name] / found["ours"] for name in taken})
    return found


def aim(benchmark: Any, what: str, value: float, *, at_least: float = 0.0, at_most: float = float("inf")) -> None:
    """Put beside a timed ratio or exponent what it should be, and whether it was.

    A missed aim is told in the summary and fails nothing: other work on the machine moves times.
    """
    if benchmark.disabled:
        return
    wanted = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
    told = "met" if at_least <= value <= at_most else "missed"
    benchmark.extra_info.setdefault("aims", []).append(f"{what} {value:.3g}, {wanted}: {told}")


def missed(benchmarks: Iterable[Any]) -> list[str]:
    """The aims that benchmarks missed, each after its benchmark's name."""
    return [
        f"{one.name}: {told}"
        for one in benchmarks
        for told in one.extra_info.get("aims", ())
        if told.endswith("missed")
    ]


def flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions, those of backward passes too; runs it once."""
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def note_compute(benchmark: Any, machine: Machine, operations: float, seconds: Mapping[str, float]) -> float:
    """Put GFLOP/s and the fraction of the machine's float32 peak into `extra_info`; the fraction."""
    if not seconds:
        return 1.0
    rate = operations / seconds["ours"]
    benchmark.extra_info.update({"gflop_per_s": rate / 1e9, "of_peak": rate / machine.peak()})
    return rate / machine.peak()


def note_memory(benchmark: Any, machine: Machine, moved: float, seconds: Mapping[str, float]) -> None:
    """Put GB/s and the fraction of the machine's bandwidth into `extra_info`."""
    if seconds:
        rate = moved / seconds["ours"]
        benchmark.extra_info.update({"gb_per_s": rate / 1e9, "of_bandwidth": rate / machine.bandwidth()})


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent b of seconds = a * size^b, fitted to logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def scaling(benchmark: Any, sizes: Sequence[int], run: Callable[[int], Any]) -> float:
    """Best of three times at each size and the fitted exponent, in `extra_info`; the exponent (0 without measuring)."""
    benchmark.pedantic(run, args=(sizes[-1],), rounds=1)
    if benchmark.stats is None:
        return 0.0
    taken = []
    for size in sizes:
        turns = []
        for _ in range(3):
            begin = benchmark._timer()
            run(size)
            turns.append(benchmark._timer() - begin)
        taken.append(min(turns))
    exponent = growth(sizes, taken)
    benchmark.extra_info.update({f"s_at_{size}": value for size, value in zip(sizes, taken, strict=True)})
    benchmark.extra_info["exponent"] = exponent
    return exponent
