"""Damaged and hostile files through the command line: one message, the right exit code, nothing left, no waiting."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.cases import KINDS, Bench, bench_in

FEW = 8
SETTINGS = settings(derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, bench_in(tmp_path_factory.mktemp("fuzz"), patch) as made:
        yield made


@pytest.mark.parametrize("name", KINDS)
def test_a_valid_file_is_taken(bench: Bench, name: str) -> None:
    kind = KINDS[name]
    content = (bench.folder / kind.file).read_bytes()
    with bench.replaced(kind.file, lambda path: path.write_bytes(content) and None):
        assert bench.check(name, kind.command, kind.outputs) in (0, 5)


@pytest.mark.parametrize("name", KINDS)
def test_a_few_mutations(bench: Bench, name: str) -> None:
    @settings(SETTINGS, max_examples=min(FEW, KINDS[name].share))
    @given(st.data())
    def one(data: st.DataObject) -> None:
        bench.fuzz(name, data.draw)

    one()


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    path.mkdir()


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


def as_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def as_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def as_link_to_pipe(path: Path) -> None:
    pipe = Path("tmp/pipe")
    if not pipe.exists():
        os.mkfifo(pipe)
    path.symlink_to(pipe.absolute())


@pytest.mark.parametrize("put", [as_pipe, as_folder, as_loop, as_dangling, as_endless, as_socket, as_link_to_pipe])
@pytest.mark.parametrize("file", sorted({kind.file for kind in KINDS.values()}))
def test_what_is_no_file_is_not_waited_for(bench: Bench, file: str, put: object) -> None:
    name = next(name for name, kind in KINDS.items() if kind.file == file)
    kind = KINDS[name]
    with bench.replaced(file, put):  # type: ignore[arg-type]
        code = bench.check(f"{name}: {put.__name__}", kind.command, kind.outputs)  # type: ignore[attr-defined]
    # optional files may be taken as absent
    assert code != 0 or file.startswith(("data/video_labels", "scored/Ambiguous", "data/dataset.toml", "data/SHA"))
    shutil.rmtree(bench.folder / "tmp", ignore_errors=True)
    (bench.folder / "tmp").mkdir()
