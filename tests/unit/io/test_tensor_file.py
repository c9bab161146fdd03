"""Safetensors files written tensor by tensor equal those that safetensors writes at once."""

from __future__ import annotations

import hashlib
import tracemalloc
from io import BufferedRandom, FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.io.encoding import sha256
from harness.io.tensor_file import KINDS, TensorFile, write_tensors
from tests.helpers.memory import traced_peak
from wstal.errors import StoreError

Array = np.ndarray[Any, Any]
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
kinds = st.sampled_from([kind for kind in KINDS if kind != "bfloat16"])  # which numpy lacks
arrays = st.builds(lambda kind, shape, seed: made(kind, shape, seed), kinds, shapes, st.integers(0))
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


def test_the_bytes_of_tensors_are_those_of_safetensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {kind: (9 * torch.rand(3, 2)).to(getattr(torch, kind)) for kind in KINDS}
    tensors |= {"b": torch.rand(2), "a": torch.rand(2), "none": torch.zeros(0, 4), "one": torch.tensor(1.5)}
    tensors |= {"turned": torch.rand(4, 3).T, 'é"\n': torch.rand(1), "row of it": torch.rand(3, 3)[1]}
    for one in (tensors, {}):
        digest = write_tensors(tmp_path / "x", one)
        written = (tmp_path / "x").read_bytes()
        assert written == safetensors.torch.save({name: value.contiguous() for name, value in one.items()})
        assert digest == hashlib.sha256(written).hexdigest()


def test_a_parameter_is_written_without_its_gradient(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"weight": torch.nn.Parameter(torch.ones(2))})
    assert safetensors.torch.load_file(tmp_path / "x")["weight"].tolist() == [1, 1]


def test_nothing_large_is_copied(tmp_path: Path) -> None:
    """Little more than the header is allocated by Python, where a copy of the tensors as bytes would be."""
    tensors = {str(number): torch.from_numpy(np.ones(1_000_000, dtype=np.float32)) for number in range(4)}
    tracemalloc.start()
    write_tensors(tmp_path / "x", tensors)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
