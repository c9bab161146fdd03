"""Signals that end the program: Ctrl-C, SIGTERM and SIGHUP raise `Interrupted` in the main thread."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
LIMIT_SECONDS = 10  # from the first signal on; a batch system needs some to take back its jobs
AGAIN_SECONDS = 0.05

_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """Interruption by a signal.

    Args:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def received() -> int | None:
    """Return the first ending signal that came, None before one has."""
    return _received[0] if _received else None


def install() -> None:
    """Let ending signals raise `Interrupted` in the main thread; signals that are ignored, as under nohup, stay so.

    If the program has not ended some seconds after the first, because C code that takes long does not return or a
    library swallowed the exception, the system's alarm ends it.
    """
    for name in ENDING:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _interrupt)
    sys.unraisablehook = _deliver_again


def finish() -> None:
    """Let ending signals change nothing any more: the work is done, and its exit code stands."""
    for name in ENDING:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _interrupt:
            signal.signal(number, _limit)


@contextlib.contextmanager
def unreached_by_ctrl_c() -> Iterator[None]:
    """Start threads and processes that Ctrl-C at the terminal does not reach, from their first moment on."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which what is started takes over
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _interrupt(number: int, _: FrameType | None) -> None:
    if not _received:
        _limit()
    _received.append(number)
    if _in_import("torch"):  # whose C++ would end the process at an exception
        _again()
        return
    raise Interrupted(number)


def _in_import(module: str) -> bool:
    """Test whether a module is being imported."""
    return bool(getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False))


def _again() -> None:
    """Repeat the first signal soon, from another thread."""
    timer = threading.Timer(AGAIN_SECONDS, _thread.interrupt_main, (received(),))
    timer.daemon = True
    timer.start()


def _limit(*_: object) -> None:
    if hasattr(signal, "alarm"):
        signal.alarm(LIMIT_SECONDS)


def _deliver_again(dropped: UnraisableHookArgs) -> None:
    """Repeat a signal whose exception Python dropped, as it does in the import system's callbacks and destructors."""
    if issubclass(dropped.exc_type, Interrupted):
        _again()  # raised in here it would be dropped too
    else:
        sys.__unraisablehook__(dropped)
