"""Fork server: imports once what runs need, and forks a child per run, since importing outlasts a short run's training.

Its environment is set before its interpreter starts and torch computes nothing in it, so a forked run begins as a fresh
process does, with the same bits. The embedded data are generated in it, once for all runs. Not for runs on a GPU: CUDA
does not survive a fork.

The server forks a watcher for each request, which forks the run and waits for it: nothing but the watcher has to know
how the run ended, and runs outlive a server that is killed.
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
from collections.abc import Mapping
from typing import IO, NoReturn

from harness.runs.request import RunRequest

LONGEST = 200_000  # bytes of a request: one datagram holds it


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

    def fork(self, request: RunRequest) -> tuple[IO[str], IO[str]]:
        """Start a run.

        Args:
            request: the run.

        Returns:
            Its stderr, and a file that holds its exit code once it has ended, or nothing where the run was lost.

        Raises:
            OSError: the server cannot be started, or died.
        """
        message = request.to_json().encode()
        if len(message) > LONGEST:
            raise OSError(f"a request of {len(message)} bytes")
        (stderr, to_stderr), (ended, to_ended) = os.pipe(), os.pipe()
        files = os.fdopen(stderr, errors="replace"), os.fdopen(ended)
        try:
            with self._lock:
                try:
                    socket.send_fds(self._started(), [message], [to_stderr, to_ended])
                except ConnectionError:  # it died since the last request
                    self._end()
                    socket.send_fds(self._started(), [message], [to_stderr, to_ended])
        except OSError:
            for file in files:
                file.close()
            raise
        finally:
            os.close(to_stderr)
            os.close(to_ended)
        return files

    def close(self) -> None:
        """End the server; runs that it started go on."""
        with self._lock:
            self._end()

    def _started(self) -> socket.socket:
        if self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with contextlib.ExitStack() as failed, theirs:
                failed.callback(ours.close)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "harness.sweeps.fork_server", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    env=self._environment,
                )  # fmt: skip
                failed.pop_all()
            self._requests = ours
        return self._requests

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            self._process.wait()
        self._requests = self._process = None


def serve(requests: socket.socket) -> None:
    """Start a run for each request until the other end is closed."""
    _import_all()
    # the collector would write to pages that are shared with the forks
    gc.freeze()
    # Ctrl-C reaches the runs and whoever started them; this process ends with the latter
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
        from harness.runs.worker import main

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
