"""Ends that nobody plans: signals, standard streams that are closed or full, a lost fork server, a killed sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from harness.cli.main import main
from tests.helpers.commands import HARNESS, Started, check_interrupted
from tests.helpers.small_data import write_tiny

SHORT = ["--set", "train.epochs=1", "train.temporal_length=16", "train.batch_size=2"]
ENDLESS = ["--set", "train.epochs=1000000", "train.temporal_length=16", "train.batch_size=2"]
linux = pytest.mark.skipif(sys.platform != "linux", reason="runs are forked, and /proc tells of handlers, on Linux")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=4, test=2)


def command_of(process: psutil.Process) -> str:
    """The command of a process, empty of one that has ended since it was listed."""
    try:
        return str(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


@pytest.fixture
def started() -> Iterator[list[Started]]:
    found: list[Started] = []
    yield found
    for one in found:
        for process in one.family():
            process.kill()
        one.process.kill()
        one.process.communicate()


def sweep(tiny: Path, store: Path, *more: str, seeds: str = "0-1") -> list[object]:
    words = ["sweep", "methods", "--methods", "acmnet", "--seeds", seeds, "--jobs", "2", "--threads", "1"]
    return [*words, "--device", "cpu", "--data", tiny, "--store", store, *more]


@linux
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_sweep_ends_it_and_its_runs(
    number: int, tiny: Path, tmp_path: Path, started: list[Started]
) -> None:
    started.append(one := Started(*sweep(tiny, tmp_path, *ENDLESS)))
    one.until(6)
    one.process.send_signal(number)
    check_interrupted(*one.ended(), number)
    assert not list(tmp_path.glob("failed/*"))


@linux
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_ctrl_c_ends_a_sweep_while_it_starts(
    processes: int, tiny: Path, tmp_path: Path, started: list[Started]
) -> None:
    """In its imports, in its fork server's, and as the first run is forked."""
    started.append(one := Started(*sweep(tiny, tmp_path, *ENDLESS)))
    one.until_ready()
    one.until(processes)
    os.killpg(one.process.pid, signal.SIGINT)
    check_interrupted(*one.ended(), signal.SIGINT)


@linux
@pytest.mark.parametrize("words", [["reproduce", "thumos14"], ["run", "--method", "acmnet"], ["ls", "methods"]])
@pytest.mark.parametrize("seconds", [0.0, 0.7])
def test_ctrl_c_in_the_first_second_is_no_traceback(
    words: Sequence[str], seconds: float, tmp_path: Path, started: list[Started]
) -> None:
    started.append(one := Started(*words, cwd=tmp_path))
    one.until_ready()
    time.sleep(seconds)
    os.killpg(one.process.pid, signal.SIGINT)
    code, err = one.ended()
    if words[0] != "ls" or code:  # which may have ended before
        check_interrupted(code, err, signal.SIGINT)


@linux
@pytest.mark.parametrize("engine", ["inline", "dask"])
def test_runs_of_fresh_processes_end_too(engine: str, tiny: Path, tmp_path: Path, started: list[Started]) -> None:
    """Dask's workers print nothing of Ctrl-C, which reaches them too."""
    if engine == "dask":
        pytest.importorskip("distributed", reason="dask is not installed")
    words = [word for word in sweep(tiny, tmp_path, *ENDLESS, seeds="0") if word not in ("--jobs", "2")]
    started.append(one := Started(*words, "--engine", engine, *(["--jobs", "1"] if engine == "dask" else [])))
    while not any("harness.runs.worker" in command_of(process) for process in one.family()):
        assert one.process.poll() is None, one.process.stderr and one.process.stderr.read()
        time.sleep(0.05)
    os.killpg(one.process.pid, signal.SIGINT)
    check_interrupted(*one.ended(), signal.SIGINT)


@linux
def test_under_nohup_a_sweep_outlives_its_terminal(tiny: Path, tmp_path: Path, started: list[Started]) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    started.append(one := Started(*sweep(tiny, tmp_path, *SHORT, seeds="0"), preexec_fn=ignore))
    one.until_ready()
    os.killpg(one.process.pid, signal.SIGHUP)
    code, err = one.ended(300)
    assert code == 0, err


@linux
def test_runs_end_with_a_sweep_that_is_killed(tiny: Path, tmp_path: Path, started: list[Started]) -> None:
    started.append(one := Started(*sweep(tiny, tmp_path, *ENDLESS)))
    one.until(6)
    one.process.kill()
    assert one.ended()[0] == -signal.SIGKILL


@linux
@pytest.mark.parametrize("processes", [2, 4])
def test_a_lost_fork_server_is_told_and_the_sweep_goes_on(
    processes: int, tiny: Path, tmp_path: Path, started: list[Started]
) -> None:
    """Lost while it imports, and while a run goes on."""
    started.append(one := Started(*sweep(tiny, tmp_path, "--retries", "0", *SHORT, seeds="0-2")))
    one.until_ready()
    one.until(processes)
    servers = [child for child in psutil.Process(one.process.pid).children() if "fork_server" in str(child.cmdline())]
    servers[0].kill()
    code, err = one.ended(300)
    assert code == 0, err
    lost = [line for line in err.splitlines() if "fork server" in line]
    assert lost == [
        "The fork server was lost (killed by signal 9). Runs that it started go on; the next one starts a new server."
    ]
    assert len(list(tmp_path.glob("runs/*"))) == 3


FULL = "error: Cannot write to standard output: No space left on device."
CLOSED = "error: Cannot write to standard output: Bad file descriptor."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("--help > /dev/full", 4, FULL),
        ("run --help >&-", 4, CLOSED),
        ("ls methods > /dev/full", 4, FULL),
        ("ls methods --json > /dev/full", 4, FULL),
        ("ls methods 2>&-", 0, ""),
        ("ls methods >&- 2>&- <&-", 4, ""),
        ("data verify DATA > /dev/full", 4, FULL),
        ("data verify DATA >&-", 4, CLOSED),
        ("data verify DATA 2> /dev/full", 0, ""),
        ("data verify DATA | true", 0, ""),
        ("data verify DATA/absent | true", 3, "error: "),
        ("data verify DATA/absent 2>&-", 3, ""),
        ("nonsense 2> /dev/full", 2, ""),
    ],
)
def test_a_closed_or_full_stream_is_one_line(command: str, code: int, error: str, tiny: Path) -> None:
    shell = f"{' '.join(HARNESS)} {command.replace('DATA', str(tiny))}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True,
                          env=os.environ | {"PYTHONUNBUFFERED": "1" if "--json" in command else ""})  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == bool(error)
    assert all(line.startswith(error) for line in lines)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(("stream", "code"), [("> /dev/full", 4), (">&-", 4), ("2> /dev/full", 0), ("2>&-", 0)])
def test_a_run_whose_streams_fail_is_finished(
    stream: str, code: int, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--method", "whole-video", "--data", str(tiny), "--store", str(tmp_path), *SHORT[:2]]
    shell = f"{' '.join([*HARNESS, *words])} {stream}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("runs/*/record.json"))) == 1
    assert main(words) == 0
    assert "Was done already" in capsys.readouterr().err


def test_messages_never_get_into_the_results(tiny: Path) -> None:
    shell = f"{' '.join(HARNESS)} data verify {tiny} "
    expected = subprocess.run(["bash", "-c", shell], capture_output=True, check=True)
    closed = subprocess.run(["bash", "-c", f"{shell} 2>&-"], capture_output=True, check=True)
    assert closed.stdout == expected.stdout
