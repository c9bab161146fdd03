"""Commands of the harness in sessions of their own, as of a terminal, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

HARNESS = [sys.executable, "-m", "harness"]
SECONDS = 9  # an interrupted command ends; on a busy machine, as the limit of `harness.io.interrupts` is 10


class Started:
    """A command in a session of its own, as of a terminal."""

    def __init__(self, *words: object, **options: object) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*HARNESS, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env=environment, **options,  # type: ignore[call-overload]
        )  # fmt: skip

    def family(self) -> list[psutil.Process]:
        """All processes of the session, dead ones aside."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def until_ready(self) -> None:
        """Wait until the command has installed its handlers of signals."""
        status = Path(f"/proc/{self.process.pid}/status")
        while True:
            (caught,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt"))
            if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
                return
            time.sleep(0.005)

    def until(self, count: int) -> list[psutil.Process]:
        """Wait until the session has so many processes: the command, the server, a watcher and a run for each run."""
        while len(found := self.family()) < count:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            time.sleep(0.02)
        return found

    def ended(self, seconds: float = SECONDS) -> tuple[int, str]:
        """Wait for its end and for that of all that it started; its exit code and stderr."""
        begun = time.monotonic()
        _, err = self.process.communicate(timeout=seconds)
        while left := self.family():
            assert time.monotonic() < begun + seconds, left
            time.sleep(0.02)
        return self.process.returncode, err


def check_interrupted(code: int, err: str, number: int) -> None:
    assert code == 128 + number, err
    what = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    assert err.splitlines()[-1] == f"{what}; finished epochs are kept, the same command goes on from there"
    assert "Traceback" not in err
    assert " failed (" not in err
