"""Safetensors files written tensor by tensor equal those that safetensors writes at once."""

from __future__ import annotations

from io import BufferedRandom, FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from harness.io.encoding import sha256
from harness.io.tensor_file import KINDS, TensorFile
from tests.helpers.memory import traced_peak
from wstal.errors import StoreError

Array = np.ndarray[Any, Any]
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
arrays = st.builds(lambda kind, shape, seed: made(kind, shape, seed), st.sampled_from([*KINDS]), shapes, st.integers(0))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(lambda name: name != "__metadata__")


def made(kind: str, shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).integers(-100, 100, shape).astype(kind)


def write(path: Path, tensors: dict[str, Array], metadata: dict[str, str] | None = None) -> str:
    with TensorFile(path) as file:
        for name, array in tensors.items():
            file.add(name, array)
        return file.finish(metadata)


@given(st.dictionaries(names, arrays, max_size=8), st.none() | st.builds(lambda text: {"about": text}, st.text()))
def test_equals_safetensors_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Array], metadata: dict[str, str] | None
) -> None:
    path = tmp_path_factory.mktemp("tensors") / "x.safetensors"
    digest = write(path, tensors, metadata)
    assert path.read_bytes() == safetensors.numpy.save(tensors, metadata)
    assert digest == sha256(path.read_bytes())
    assert [*path.parent.iterdir()] == [path]


def test_columns_of_a_table_are_stored_as_they_read(tmp_path: Path) -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    write(tmp_path / "x", {"column": table[:, 1], "turned": table.T})
    with safetensors.safe_open(tmp_path / "x", "np") as file:
        np.testing.assert_array_equal(file.get_tensor("column"), [1, 5, 9])
        np.testing.assert_array_equal(file.get_tensor("turned"), table.T)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def write_tensors(count: int) -> None:
        with TensorFile(tmp_path / "x") as file:
            for number in range(count):
                file.add(f"{number:03d}", np.full(50_000, number, dtype=np.float64))
            file.finish()

    few, many = traced_peak(lambda: write_tensors(4)), traced_peak(lambda: write_tensors(64))
    assert (tmp_path / "x").stat().st_size > 64 * 400_000
    assert many - few < 400_000  # less than one tensor more, of 60


def test_an_unfinished_file_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")

    def interrupted() -> None:
        with TensorFile(tmp_path / "x") as file:
            file.add("a", np.zeros(3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(StoreError, match="Cannot write"):
        write(tmp_path / "f" / "x", {})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full disk")
@pytest.mark.parametrize("rows", [3, 100_000])  # found when the file is finished, and at once
def test_a_full_disk_is_a_store_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: BufferedRandom(FileIO("/dev/full", "r+")))
    with pytest.raises(StoreError, match="No space left"):
        write(tmp_path / "x", {"a": np.zeros(rows)})
    assert not list(tmp_path.iterdir())
