"""Fork server: imports once what runs need, and forks a child per run, since importing outlasts a short run's training.

Its environment is set before its interpreter starts and torch computes nothing in it, so a forked run begins as a fresh
process does, with the same bits. The embedded data are generated in it, once for all runs. Not for runs on a GPU: CUDA
does not survive a fork.

The server forks a watcher for each request, which forks the run and waits for it: nothing but the watcher has to know
how the run ended, and runs outlive a server that is killed. A run ends when whoever started it no longer reads it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import IO, NamedTuple, NoReturn

from harness.io.console import say
from harness.io.interrupts import unreached_by_ctrl_c
from harness.runs.request import RunRequest

LONGEST = 200_000  # bytes of a request: one datagram holds it
BEGUN = "begun"


class ForkedRun(NamedTuple):
    """Run of a fork server as its reader sees it."""

    stderr: IO[str]
    ended: IO[str]  # the line BEGUN and the exit code once it has ended; without the code, or all of it, if lost
    hang_up: Callable[[], None]  # stop reading stderr, which ends the run


class ForkServer:
    """Handle of a fork server's process, which is started when it is first needed; usable by several threads.

    Args:
        environment: of the process and of all runs.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._killed = False

    def fork(self, request: RunRequest) -> ForkedRun:
        """Start a run, with a new server where the last one was lost, which is told on stderr.

        Raises:
            OSError: the server cannot be started, or died again, or was killed by `kill`.
        """
        message = request.to_json().encode()
        if len(message) > LONGEST:
            raise OSError(f"a request of {len(message)} bytes")
        # a socket can be hung up while another thread reads it
        reader, to_stderr = socket.socketpair()
        ended, to_ended = os.pipe()

        def hang_up() -> None:
            with contextlib.suppress(OSError):  # closed meanwhile
                reader.shutdown(socket.SHUT_RDWR)

        run = ForkedRun(reader.makefile(errors="replace"), os.fdopen(ended), hang_up)
        reader.close()  # with its file
        try:
            with self._lock:
                try:
                    socket.send_fds(self._started(), [message], [to_stderr.fileno(), to_ended])
                except ConnectionError:  # it died since the last request
                    self._end(lost=True)
                    socket.send_fds(self._started(), [message], [to_stderr.fileno(), to_ended])
        except OSError:
            run.stderr.close()
            run.ended.close()
            raise
        finally:
            to_stderr.close()
            os.close(to_ended)
        return run

    def kill(self) -> None:
        """End the server, whatever it does, for good."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the server once it has started what was asked for; these runs go on."""
        with self._lock:
            self._end(lost=self._process is not None and self._process.poll() is not None)

    def _started(self) -> socket.socket:
        if self._killed:
            raise OSError("the fork server was killed")
        if self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with contextlib.ExitStack() as failed, theirs, unreached_by_ctrl_c():
                failed.callback(ours.close)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "harness.sweeps.fork_server", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    env=self._environment,
                )  # fmt: skip
                failed.pop_all()
            self._requests = ours
        return self._requests

    def _end(self, lost: bool) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            code = self._process.wait()
            if lost and not self._killed:
                how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
                say(f"The fork server was lost ({how}). Runs that it started go on; the next one starts a new server.")
        self._requests = self._process = None


def serve(requests: socket.socket) -> None:
    """Start a run for each request until the other end is closed."""
    # Ctrl-C reaches the runs and whoever started them; this process ends with the latter
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _import_all()
    # the collector would write to pages that are shared with the forks
    gc.freeze()
    # watchers leave no zombies
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, LONGEST, 2)
        if not message:
            return
        request = RunRequest.from_json(message.decode())
        if request.data.embedded:  # generated before the first fork that reads them
            request.data.open(request.store).videos("train")
        if os.fork() == 0:
            requests.close()
            _watch_run(request, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _import_all() -> None:
    """Import what a run imports on its way; building an optimizer imports a part of torch that is slow to load."""
    import torch

    import harness.runs.worker  # noqa: F401
    from harness.registry import load_method, method_entries

    torch.optim.Adam([torch.zeros(1)])
    for method in method_entries():
        with contextlib.suppress(Exception):  # a broken plug-in concerns the run that asks for it
            load_method(method)


def _watch_run(request: RunRequest, stderr: int, ended: int) -> NoReturn:
    """Fork the run, wait for it, and write its exit code."""
    with contextlib.suppress(BrokenPipeError):
        os.write(ended, f"{BEGUN}\n".encode())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (run := os.fork()) == 0:
        os.close(ended)
        _become_run(request, stderr)
    os.close(stderr)
    _, status = os.waitpid(run, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(ended, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become_run(request: RunRequest, stderr: int) -> NoReturn:
    """Do the run and end with its exit code."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(stderr, 2)
        os.close(stderr)
        from harness.runs.worker import end_with_reader, main

        end_with_reader()
        code = main(request)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # none of the server's exit handlers is to run
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
