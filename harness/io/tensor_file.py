"""Safetensors files that are written tensor by tensor: the library holds all of them twice more."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from harness.io.atomic import atomic_file, cannot_write

# in the order of the file: safetensors puts types of wide alignment first
KINDS = {
    "int64": "I64", "float64": "F64", "float32": "F32", "int32": "I32", "bfloat16": "BF16", "float16": "F16",
    "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
RANKS = {kind: rank for rank, kind in enumerate(KINDS)}


class _Stored(NamedTuple):
    """Tensor of a file; they are sorted by type and name."""

    rank: int
    name: str
    kind: str
    shape: tuple[int, ...]
    size: int
    place: int = 0


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors, one after the other, and return the file's SHA-256.

    Args:
        path: file to write.
        tensors: on any device, by name.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    stored = []
    for name, value in tensors.items():
        kind, size = str(value.dtype).removeprefix("torch."), value.numel() * value.element_size()
        stored.append(_Stored(RANKS[kind], name, kind, tuple(value.shape), size))
    stored.sort()
    return _write(path, stored, (_content(tensors[one.name]) for one in stored), {})


def _content(tensor: Tensor) -> bytes | memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if len(flat) else b""


def _write(
    path: Path, stored: Iterable[_Stored], contents: Iterable[bytes | memoryview], metadata: Mapping[str, str]
) -> str:
    """Write a header and the contents that it lists, and return the file's SHA-256."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for one in stored:
        header[one.name] = {"dtype": KINDS[one.kind], "shape": one.shape, "data_offsets": [end, end + one.size]}
        end += one.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with atomic_file(path) as file:
        for piece in itertools.chain((len(text).to_bytes(8, "little"), text), contents):
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


class TensorFile:
    """Safetensors file, equal to the byte to what `safetensors.numpy.save` gives, without all tensors in memory.

    Such a file sorts its tensors by type and name, and begins with the shapes of all. So they go to a nameless file in
    the same folder first, and from there to their places when all are known.

    Args:
        path: the file.

    Example:
        with TensorFile(path) as file:
            file.add("a", np.zeros(3))
            digest = file.finish()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored: list[_Stored] = []
        self._end = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._spool = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise cannot_write(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was told before
            self._spool.close()

    def add(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Add a tensor.

        Args:
            name: of the tensor, once in the file.
            array: of one of the types in `KINDS`, little-endian.

        Raises:
            StoreError: the disk is full.
        """
        kind = array.dtype.name
        self._stored.append(_Stored(RANKS[kind], name, kind, array.shape, array.nbytes, self._end))
        self._end += array.nbytes
        try:
            self._spool.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def finish(self, metadata: Mapping[str, str] | None = None) -> str:
        """Write the file and return its SHA-256.

        Args:
            metadata: of the file; of several entries safetensors keeps no order.

        Raises:
            StoreError: the disk is full.
        """
        self._stored.sort()
        return _write(self.path, self._stored, map(self._read, self._stored), metadata or {})

    def _read(self, one: _Stored) -> bytes:
        self._spool.seek(one.place)
        return self._spool.read(one.size)
