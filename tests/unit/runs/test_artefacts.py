"""Tensors are written piece by piece, to the bytes that safetensors writes."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from harness.runs.artefacts import SAFETENSORS_TYPES, save_tensors


def test_the_bytes_are_those_of_safetensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {f"{dtype}": (9 * torch.rand(3, 2)).to(dtype) for dtype in SAFETENSORS_TYPES}
    tensors |= {"b": torch.rand(2), "a": torch.rand(2), "none": torch.zeros(0, 4), "one": torch.tensor(1.5)}
    tensors |= {"turned": torch.rand(4, 3).T, 'é"\n': torch.rand(1), "row of it": torch.rand(3, 3)[1]}
    for given in (tensors, {}):
        digest = save_tensors(tmp_path / "x", given)
        written = (tmp_path / "x").read_bytes()
        assert written == safetensors.torch.save({name: value.contiguous() for name, value in given.items()})
        assert digest == hashlib.sha256(written).hexdigest()


def test_a_parameter_is_written_without_its_gradient(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"weight": torch.nn.Parameter(torch.ones(2))})
    assert safetensors.torch.load_file(tmp_path / "x")["weight"].tolist() == [1, 1]


def test_nothing_large_is_copied(tmp_path: Path) -> None:
    """Little more than the header is allocated by Python, where a copy of the tensors as bytes would be."""
    tensors = {str(number): torch.from_numpy(np.ones(1_000_000, dtype=np.float32)) for number in range(4)}
    tracemalloc.start()
    save_tensors(tmp_path / "x", tensors)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
