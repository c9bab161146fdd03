"""A process that has imported all that a run needs, and forks for each: importing takes longer than a short run trains.

Its environment is set before its interpreter starts and torch computes nothing in it, so a forked run begins as a fresh
process does, with the same bits. The embedded data are generated in it, once for all runs. Not for runs on a GPU: CUDA
does not outlive a fork.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import IO

LONGEST = 200_000  # bytes of a request: one datagram holds it


class ForkServer:
    """Starts runs as forks; as many threads as like may do so at once.

    Args:
        environment: of the process and of all runs.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def fork(self, arguments: Sequence[str]) -> tuple[IO[str], IO[str]]:
        """Start `wstal-bench run` with these arguments.

        Returns:
            Its stderr, and a file that holds its exit code once it has ended, or nothing where the template was lost.

        Raises:
            OSError: the template cannot be started, or died.
        """
        request = json.dumps(list(arguments)).encode()
        if len(request) > LONGEST:
            raise OSError(f"a command of {len(request)} bytes")
        (said, says), (ended, ends) = os.pipe(), os.pipe()
        try:
            with self._lock:
                try:
                    socket.send_fds(self._started(), [request], [says, ends])
                except ConnectionError:  # it died since it was last asked
                    self._end()
                    socket.send_fds(self._started(), [request], [says, ends])
        except OSError:
            os.close(said)
            os.close(ended)
            raise
        finally:
            os.close(says)
            os.close(ends)
        return os.fdopen(said, errors="replace"), os.fdopen(ended)

    def close(self) -> None:
        """End the template; runs that it started go on."""
        with self._lock:
            self._end()

    def _started(self) -> socket.socket:
        if self._requests is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "harness.sweeps.fork_server", str(theirs.fileno())],
                        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        env=self._environment,
                    )  # fmt: skip
                except OSError:
                    ours.close()
                    raise
            self._requests = ours
        return self._requests

    def _end(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            self._process.wait()
        self._requests = self._process = None


def serve(requests: socket.socket) -> None:
    """Fork a run for each request until the other end is closed, and tell each run's end."""
    _import_all()
    # the collector would write to pages that are shared with the forks
    gc.freeze()
    # Ctrl-C reaches the runs and whoever started them; this process ends with the latter
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakes, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    ends: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(wakes, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is requests:
                    request, descriptors, _, _ = socket.recv_fds(requests, LONGEST, 2)
                    if not request:
                        return
                    says, tells = descriptors
                    arguments = json.loads(request)
                    _share_data(arguments)
                    if (child := os.fork()) == 0:
                        for descriptor in (tells, wakes, woken, *ends.values()):
                            os.close(descriptor)
                        selector.close()
                        requests.close()
                        _become_run(arguments, says)
                    ends[child] = tells
                    os.close(says)
                else:
                    os.read(wakes, 4096)
                    _tell_ends(ends)


def _import_all() -> None:
    """What a run imports on its way; building an optimizer imports a part of torch that is slow to load."""
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401
    import torch

    import harness.cli.main
    import harness.io.console
    import harness.runs.execute  # noqa: F401
    from harness.registry import load_method, method_entries

    torch.optim.Adam([torch.zeros(1)])
    for method in method_entries():
        with contextlib.suppress(Exception):  # a broken plug-in is the business of the run that asks for it
            load_method(method)


def _share_data(arguments: Sequence[str]) -> None:
    """Generate the embedded data before the first fork that reads them."""
    from harness.data.synthetic_source import embedded_source

    if not {"--data", "--full-size"} & set(arguments):
        embedded_source(full_size=False).videos("train")


def _become_run(arguments: list[str], says: int) -> None:
    """Be `wstal-bench run` and end with its exit code."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(says, 2)
        os.close(says)
        from harness.cli.main import main

        sys.argv = ["wstal-bench", "run", *arguments]
        code = main(sys.argv[1:])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # not the template's way out: no handler of it is to run
        os._exit(code)


def _tell_ends(ends: dict[int, int]) -> None:
    while ends:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(ends[child], str(os.waitstatus_to_exitcode(status)).encode())
        os.close(ends.pop(child))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
