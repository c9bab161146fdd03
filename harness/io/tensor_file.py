"""Safetensors files whose tensors are made one after the other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from harness.io.atomic import atomic_file, cannot_write

# in the order of the file: safetensors puts types of wide alignment first
KINDS = {
    "int64": "I64", "float64": "F64", "float32": "F32", "int32": "I32", "int16": "I16", "int8": "I8", "bool": "BOOL",
}  # fmt: skip
RANKS = {kind: rank for rank, kind in enumerate(KINDS)}


class _Stored(NamedTuple):
    rank: int
    name: str
    kind: str
    shape: tuple[int, ...]
    place: int

    @property
    def size(self) -> int:
        return prod(self.shape) * np.dtype(self.kind).itemsize


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
        self._stored.append(_Stored(RANKS[kind], name, kind, array.shape, self._end))
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
        header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
        end = 0
        for one in self._stored:
            header[one.name] = {
                "dtype": KINDS[one.kind], "shape": one.shape, "data_offsets": [end, end + one.size],
            }  # fmt: skip
            end += one.size
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        digest = hashlib.sha256()
        with atomic_file(self.path) as file:
            for piece in (len(text).to_bytes(8, "little"), text):
                file.write(piece)
                digest.update(piece)
            for one in self._stored:
                self._spool.seek(one.place)
                piece = self._spool.read(one.size)
                file.write(piece)
                digest.update(piece)
        return digest.hexdigest()
