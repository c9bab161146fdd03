"""Signals at any time of a sweep: each ends it within seconds, with its runs, and the sweep is finished afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.commands import Started, check_interrupted
from tests.helpers.faults import finished
from tests.helpers.small_data import write_tiny
from tests.stress.report import report

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells when handlers are installed"),
]
SIGNALS = 25
LONGEST = 6.0  # seconds until a signal: imports, the fork server's, and some epochs


def test_signals_at_any_time_end_a_sweep_and_leave_its_bits(tmp_path: Path) -> None:
    tiny = write_tiny(tmp_path / "tiny", train=4, test=2)
    words = ["sweep", "methods", "--methods", "acmnet", "wtalc", "--seeds", "0-1", "--jobs", "2", "--threads", "1",
             "--device", "cpu", "--data", tiny, "--set", "train.epochs=1000", "train.temporal_length=16",
             "train.batch_size=2", "--store"]  # fmt: skip
    draws = random.Random(0)
    interrupted, slowest, stores = 0, 0.0, 1
    while interrupted < SIGNALS:
        one = Started(*words, tmp_path / str(stores))
        one.until_ready()
        try:
            one.process.wait(draws.uniform(0, LONGEST))
        except subprocess.TimeoutExpired:
            name = draws.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
            begun = time.monotonic()
            # a terminal sends it to all, `kill` to the sweep alone
            os.killpg(one.process.pid, name) if draws.random() < 0.5 else one.process.send_signal(name)
            code, err = one.ended()
            slowest = max(slowest, time.monotonic() - begun)
            if code:  # else it had just been done
                check_interrupted(code, err, name)
                interrupted += 1
        else:
            code, err = one.ended()
            assert code == 0, err
        stores += not code
    for store in ("undisturbed", str(stores)):
        code, err = Started(*words, tmp_path / store).ended(600)
        assert code == 0, err
    expected = finished(tmp_path / "undisturbed")
    assert len(expected) > 0
    for number in range(1, stores + 1):
        assert finished(tmp_path / str(number)) == expected
    report(
        "Ctrl-C, SIGTERM and SIGHUP at random times of a sweep of 4 runs, from its first imports on",
        f"{interrupted} interruptions of {stores} sweeps, each one line, no process left after at most "
        f"{slowest:.1f} s; every file bitwise equal to an undisturbed sweep's",
        "nox -s stress -- tests/stress/test_interrupts.py",
    )
