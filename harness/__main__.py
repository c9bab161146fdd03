"""Entry point of `wstal-bench` and of `python -m harness`: signals and standard streams, then a command."""

from __future__ import annotations

import atexit
import contextlib
import os

from harness.io.exits import exit_code
from harness.io.interrupts import finish, install, received
from harness.io.streams import OutputError, flush_streams, secure_streams


def main() -> int:
    """Do the command of this process's command line and return its exit code."""
    code = exit_code(_do_command)
    finish()
    with contextlib.suppress(OutputError):  # of a command that failed otherwise
        flush_streams()
    if received() is not None:
        # the interpreter's own end waits for threads and takes apart what was imported, for seconds
        atexit._run_exitfuncs()
        os._exit(code)
    return code


def _do_command() -> int:
    install()
    secure_streams()
    from harness.cli.main import main  # takes long enough to be interrupted

    try:
        code = main()
    except SystemExit as ended:  # --help, or wrong usage
        code = int(ended.code or 0)
    flush_streams()
    return code


if __name__ == "__main__":
    raise SystemExit(main())
