"""Signals, in processes of their own: each ends the program in one line, whatever Python or a library makes of it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from harness.io.exits import exit_code

HEAD = """
import os, signal, sys, time
from harness.io import interrupts
from harness.io.exits import exit_code
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
interrupts.install()
def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):
        time.sleep(0.05)
"""
TAIL = "\nsys.exit(exit_code(work))\n"
LINE = "interrupted; finished epochs are kept, the same command goes on from there\n"


def ended(work: str) -> tuple[int, str]:
    program = [sys.executable, "-c", HEAD + work + TAIL]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stderr


def test_a_signal_is_one_line_and_its_code() -> None:
    assert ended("work = ctrl_c") == (130, LINE)
    code, err = ended("def work(): signal.raise_signal(signal.SIGTERM)")
    assert (code, err) == (143, LINE.replace("interrupted", "ended by SIGTERM"))


def test_an_error_that_a_library_makes_of_it_is_still_it() -> None:
    work = """
def work():
    try:
        ctrl_c()
    except KeyboardInterrupt as error:
        raise ImportError("numpy failed to import") from error
"""
    assert ended(work) == (130, LINE)


def test_it_waits_for_the_import_of_torch() -> None:
    work = """
import types
torch = sys.modules["torch"] = types.ModuleType("torch")
torch.__spec__ = types.SimpleNamespace(_initializing=True)
def work():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    sys.stderr.write("imported\\n")
    torch.__spec__._initializing = False
    for _ in range(100):
        time.sleep(0.05)
"""
    assert ended(work) == (130, "imported\n" + LINE)


def test_it_comes_again_where_python_drops_it() -> None:
    work = """
class Dropped:
    def __del__(self):
        ctrl_c()
def work():
    del [Dropped()][0]
    for _ in range(100):
        time.sleep(0.05)
    return 0
"""
    assert ended(work) == (130, LINE)


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="the system has no alarm")
def test_where_nothing_takes_it_the_alarm_ends_the_program() -> None:
    work = """
interrupts.LIMIT_SECONDS = 1
def work():
    while True:
        try:
            ctrl_c()
        except BaseException:
            pass
"""
    assert ended(work) == (-signal.SIGALRM, "")


def test_ignored_signals_stay_ignored() -> None:
    work = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
interrupts.install()
def work():
    signal.raise_signal(signal.SIGHUP)
    return 7
"""
    assert ended(work) == (7, "")


def test_an_error_before_any_signal_is_the_programs() -> None:
    def work() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_code(work)


def test_once_the_work_is_done_its_exit_code_stands() -> None:
    work = """
import atexit
atexit.register(signal.raise_signal, signal.SIGINT)
atexit.register(signal.raise_signal, signal.SIGTERM)
def work():
    interrupts.finish()
    return 3
"""
    assert ended(work) == (3, "")
