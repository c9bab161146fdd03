"""Reading of pickled NumPy arrays from outside, by an unpickler that knows only arrays and plain containers.

This is the only module that unpickles. It refuses a file that names any other function before the function runs, and
checks every state that NumPy would use unchecked.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from harness.data.features import naming_damage, parse_header
from harness.io.reading import open_regular
from harness.io.text import printable
from wstal.errors import UserError

MAX_BYTES = 32 * 2**30  # W-TALC's joint THUMOS14 features are 2-4 GB


def load_array(path: Path, max_bytes: int = MAX_BYTES) -> npt.NDArray[Any]:
    """Read an `.npy` file's array, which may be a pickled array of objects.

    Args:
        path: the file.
        max_bytes: largest size to read.

    Raises:
        MissingDataError: the file does not exist.
        UserError: it is too large, no `.npy` file, or a pickle that names anything but NumPy's array parts.
    """
    with naming_damage(path), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise UserError(f"{path} has {size} bytes, more than {max_bytes}. Raise the limit if the file is genuine.")
        shape, _, dtype = parse_header(file)
        if not dtype.hasobject:
            if file.tell() + math.prod(shape) * dtype.itemsize > size:
                raise ValueError(f"{size} bytes do not hold {dtype} {list(shape)}")
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))
        try:
            array = _ArrayUnpickler(file).load()
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} cannot be unpickled: {error}") from error
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise UserError(f"{path} does not hold the array of shape {list(shape)} that its header states.")
    return array


def load_tree(content: bytes, path: Path) -> dict[str, Any]:
    """Return the dictionary of arrays, and dictionaries of them, that a pickle holds.

    Args:
        content: bytes of the pickle.
        path: where it stands, for messages.

    Raises:
        UserError: it is no such pickle, or names anything but NumPy's array parts.
    """
    with naming_damage(path):
        try:
            tree = _ArrayUnpickler(io.BytesIO(content)).load()
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} cannot be unpickled: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds a {type(tree).__name__}, expected a dictionary of arrays.")
    return tree


class _Kind:
    """Pickled dtype. NumPy's own accepts any state, and a state that takes bytes for objects reads any memory."""

    # single numbers, bytes, text and objects, since no known file has `datetime64`, records or subarrays
    NAME = re.compile(r"[biuf][1248]|f16|[SU][0-9]{1,9}|O[48]?")

    def __init__(self, name: object, align: object = False, copy: object = False) -> None:
        if not isinstance(name, str) or not self.NAME.fullmatch(name):
            raise pickle.UnpicklingError(f"it has an array of type '{printable(str(name), 60)}'.")
        self.dtype = np.dtype("O" if name[0] == "O" else name)

    def set_state(self, state: Any) -> None:
        """Take the byte order from `dtype.__reduce__`'s state."""
        if len(state) < 5 or state[1] not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("it has an array of records.")
        self.dtype = self.dtype.newbyteorder(state[1])


class _ArrayUnpickler(pickle._Unpickler):
    """Unpickler of arrays of lists, numbers and strings, by the module names of NumPy 1 and 2.

    It extends Python's unpickler in Python: the one in C allocates memory for any number of objects that a file
    announces, and does not let a subclass check a state before an object takes it.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO) -> None:
        # W-TALC's originals were pickled by Python 2, and only latin1 keeps the bytes of arrays
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> object:
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            raise pickle.UnpicklingError(
                f"it names {printable(f'{module}.{name}')}, which an array of features or annotations does not need. "
                "Do not trust this file; get it from its authors again."
            )
        return allowed

    def load_build(self) -> None:
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, instance = stack.pop(), stack[-1]
        if isinstance(instance, _Kind):
            instance.set_state(state)
        elif type(instance) is np.ndarray and instance.shape == (0,):
            _fill(instance, state)
        else:
            raise pickle.UnpicklingError(f"it sets the state of a {type(instance).__name__}.")

    dispatch[pickle.BUILD[0]] = load_build


def _fill(array: npt.NDArray[Any], state: Any) -> None:
    """Fill an empty array with the shape, type and values of `ndarray.__reduce__`'s state, if these agree."""
    version, shape, kind, fortran, data = state
    if not isinstance(kind, _Kind) or not all(type(length) is int and length >= 0 for length in shape):
        raise pickle.UnpicklingError("it has an array without type or shape.")
    data = data.encode("latin1") if isinstance(data, str) else data
    fits = isinstance(data, list if kind.dtype.hasobject else bytes)
    if not fits or len(data) != math.prod(shape) * (1 if kind.dtype.hasobject else kind.dtype.itemsize):
        raise pickle.UnpicklingError(f"its array of shape {list(shape)} has other data than that.")
    array.__setstate__((version, tuple(shape), kind.dtype, bool(fortran), data))  # type: ignore[arg-type]


def _empty_array(kind: object, shape: object, _: object) -> npt.NDArray[Any]:
    # pickled arrays start empty and are filled by __setstate__ with data from the file itself, while a larger start
    # could require any amount of memory
    if kind is not _NDARRAY or shape != (0,):
        raise pickle.UnpicklingError(f"it starts an array with shape {shape!s:.60}, which NumPy does not write.")
    return np.ndarray((0,), dtype=np.int8)


def _encode(text: object, encoding: object) -> bytes:
    # protocol 2 writes bytes as text to be encoded, as in HAAN's files
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes {type(text).__name__} as {encoding!r:.60}.")
    return text.encode("latin1")


def _scalar(kind: object, data: object = None) -> object:
    if not isinstance(kind, _Kind) or kind.dtype.hasobject or not isinstance(data, bytes | str):
        raise pickle.UnpicklingError("it holds a NumPy scalar that is not a plain number or text.")
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind.dtype, count=1)[0]


# a name for `_empty_array` that cannot be called, since NumPy's own makes arrays of objects from any bytes
_NDARRAY = object()
_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}
