"""A full disk and a store that turns read-only: at every call of a run, and on a real file system of 2 MB."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.helpers.faults import FAULTS, RUN, check_faults, finished
from tests.helpers.small_data import write_tiny
from tests.stress.report import report

pytestmark = [pytest.mark.stress, pytest.mark.usefixtures("many_checkpoints")]
COMMAND = "pytest -m stress tests/stress/test_disk_full.py"
SIZE, PAGE = 2 * 1024**2, 4096


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=3, test=2)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_run_is_whole_or_absent_whatever_call_fails(
    kind: str, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = check_faults(kind, tiny, tmp_path, range(1000), capsys)
    assert hits > 100
    fault = {"full": "the disk full", "read-only": "the store read-only", "killed": "the process killed"}[kind]
    report(
        f"a run with {fault} from its n-th call that changes a file on",
        f"n = 1 to {hits}: whole or absent, and the same bits without the fault",
        COMMAND,
    )


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], capture_output=True
        ).returncode
    ):
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(
    small: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page more is free each time, until the run fits."""
    assert main([*RUN, "--data", str(tiny), "--store", str(tmp_path / "undisturbed")]) == 0
    expected = finished(tmp_path / "undisturbed")
    ballast, store = small / "ballast", small / "store"
    command = [*RUN, "--data", str(tiny), "--store", str(store)]
    for pages in range(SIZE // PAGE):
        with ballast.open("wb", buffering=0) as file:
            file.write(bytes(SIZE - pages * PAGE))
        capsys.readouterr()
        code = main(command)
        err = capsys.readouterr().err
        assert finished(store) in ({}, expected), pages
        if code == 0:
            break
        assert code == 4
        assert err.count("error: ") == 1
        assert "No space left on device" in err.splitlines()[-1]
        ballast.unlink()
        assert main(command) == 0
        assert finished(store) == expected, pages
        assert list(store.glob("partial/*")) == []
        shutil.rmtree(store)
        ballast.unlink(missing_ok=True)
    assert finished(store) == expected
    assert pages > 10
    report(
        "a run on a tmpfs of 2 MB with n pages free",
        f"n = 0 to {pages}: absent with exit code 4 up to {pages - 1}, the same bits once there is room",
        COMMAND,
    )


def test_a_store_that_is_really_read_only(small: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [*RUN, "--data", str(tiny), "--store", str(small / "store")]
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    assert main(command) == 4
    assert "Read-only file system" in capsys.readouterr().err.splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    assert main(command) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    capsys.readouterr()
    assert main(command) == 0  # what is done needs no writing
    assert "Was done already" in capsys.readouterr().err
