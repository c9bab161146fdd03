"""Feature files: their headers and the rows of one video.

Files are never unpickled here. `wstal-bench data convert` converts pickled object arrays.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Literal

import numpy as np

from harness.io.console import OnProgress
from harness.io.machine import memory_size
from harness.io.reading import Status, open_regular, status_of
from harness.io.text import printable
from wstal.errors import MissingDataError, UserError
from wstal.types import FloatArray, Video

LONGEST_HEADER = 10_000  # bytes, NumPy's own limit
_ODD_HEADER = re.compile(rb"\d[A-Za-z]|\\")
_DAMAGE = (
    OSError, EOFError, MemoryError, RecursionError, ArithmeticError, LookupError,
    ValueError, TypeError, AttributeError, AssertionError, SyntaxError, TokenError, struct.error,
)  # fmt: skip
_CHECK_ROWS = 256  # rows checked at a time: 2 MiB of two-stream I3D in float32


@dataclass(frozen=True)
class Header:
    """Shape and type in the first bytes of a feature file: `[rows, width]` of `dtype`."""

    rows: int
    width: int
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return self.rows * self.width * self.dtype.itemsize


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Name the file where it is absent or damaged, on which NumPy, pickle and the system raise many kinds of errors.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise MissingDataError(f"{path} is not there. Restore the file.") from error
    except _DAMAGE as error:
        raise UserError(f"{path} is not a readable .npy file ({error}). Copy or extract it again.") from error


@dataclass(frozen=True)
class _Layout:
    """What the first bytes of a file say, and the status that the file had when they were read.

    Args:
        status: the file's.
        header: shape and type.
        offset: bytes before the first value.
        order: `F` where a column's values stand together, else `C`.
    """

    status: Status
    header: Header
    offset: int
    order: Literal["C", "F"]


# by path: a run asks for each header several times, and parsing one takes longer than looking at a file's status
_layouts: dict[Path, _Layout] = {}


def read_header(path: Path) -> Header:
    """Read a feature file's shape and type from its header, and check its size, without reading the features.

    A file is opened again only after its status changed.

    Raises:
        MissingDataError: there is no such file.
        UserError: it is no `.npy` file, cut short, an object array, not float, not `[T, width]`, or empty.
    """
    with naming_damage(path):
        known = _layouts.get(path)
        if known is not None and known.status == status_of(os.stat(path)):
            return known.header
        with open_regular(path) as file:
            return _layout(path, file).header


def _layout(path: Path, file: BinaryIO) -> _Layout:
    """Return the layout of an open file, which is read where it is not known."""
    status = status_of(os.fstat(file.fileno()))
    known = _layouts.get(path)
    if known is not None and known.status == status:
        return known
    shape, fortran, dtype = parse_header(file)
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject and shape == ():
        raise UserError(
            f"{path} is a single pickled object, such as a dictionary of streams. Save each stream as a float array "
            "[T, width] in a file of its own, <subset>/<stream>/<video>.npy."
        )
    if dtype.hasobject:
        raise UserError(f"{path} is a pickled object array. Convert it once with `wstal-bench data convert`.")
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise UserError(f"{path} holds {dtype}. Save features as float16 or float32.")
    if len(shape) != 2:
        raise UserError(f"{path} has shape {list(shape)}, expected [T, width]. Save one row a snippet.")
    if 0 in shape:
        raise UserError(f"{path} is empty, shape {list(shape)}. Extract it again.")
    if status[0] < expected:
        raise UserError(f"{path} is cut short: {status[0]} bytes of {expected}. Copy or extract it again.")
    header = Header(rows=shape[0], width=shape[1], dtype=dtype)
    _layouts[path] = found = _Layout(status, header, file.tell(), "F" if fortran else "C")
    return found


def parse_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, Fortran order and type from the header of an `.npy` file, and leave the file at its first value.

    A damaged header raises errors of many kinds, which `naming_damage` turns into one.
    """
    major, _ = np.lib.format.read_magic(file)
    begin = file.tell()
    size = int.from_bytes(file.read(2 if major == 1 else 4), "little")
    # NumPy reads as much as a header claims to have, and its parser warns of damaged headers and those of Python 2
    if size > LONGEST_HEADER:
        raise ValueError("its header is damaged")
    odd = _ODD_HEADER.search(file.read(size))
    file.seek(begin)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    # only then: warning filters belong to the whole process, and threads read features
    with warnings.catch_warnings(action="ignore") if odd else contextlib.nullcontext():
        shape, fortran, dtype = read(file)
    if any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"its header states shape {list(shape)}")
    return shape, fortran, dtype


def map_features(path: Path) -> FloatArray:
    """Map a feature file's array into memory, read-only.

    Raises:
        MissingDataError: there is no such file.
        UserError: as `read_header`, or NumPy cannot map it, although its header is valid.
    """
    with naming_damage(path), open_regular(path) as file:
        layout = _layout(path, file)
        shape = layout.header.rows, layout.header.width
        return np.memmap(file, layout.header.dtype, "r", layout.offset, shape, layout.order)


@dataclass(frozen=True)
class FeatureFiles:
    """Feature files of one video, whose columns are joined in this order.

    Args:
        paths: one `.npy` file per stream, or one joint file.
        columns: range of columns of a joint file to use, None for all.
        cut: whether streams that differ by one row are cut to the shorter.
    """

    paths: tuple[Path, ...]
    columns: tuple[int, int] | None = None
    cut: bool = False

    def header(self) -> Header:
        """Read the number of rows, the joined width and the type of what `read` gives.

        Raises:
            UserError: as in `read_header`, or the streams have different numbers of rows.
        """
        headers = [read_header(path) for path in self.paths]
        counts = [header.rows for header in headers]
        if not agree(counts, self.cut):
            rows = " and ".join(f"{path} has {header.rows}" for header, path in zip(headers, self.paths, strict=True))
            raise UserError(f"The streams of one video differ: {rows} rows. {remedy_for(counts)}")
        first, last = self.columns or (0, sum(header.width for header in headers))
        kind = np.result_type(*(header.dtype for header in headers)).newbyteorder("=")
        return Header(min(counts), last - first, np.dtype(np.float32) if kind.itemsize == 8 else kind)

    def read(self) -> FloatArray:
        """Read `[T, D]` features as float16 or float32, memory-mapped where one file holds them in that form.

        float64 becomes float32, because extractors that write it computed in float32 or less.

        Raises:
            UserError: as in `header`.
        """
        kind = self.header().dtype
        arrays = [map_features(path) for path in self.paths]
        rows = min(map(len, arrays))
        arrays = [array if len(array) == rows else array[:rows] for array in arrays]
        if self.columns:
            arrays = [arrays[0][:, slice(*self.columns)]]
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinity, which `check_finite` refuses
            if len(arrays) == 1:
                return arrays[0] if arrays[0].dtype == kind else arrays[0].astype(kind)
            return np.concatenate(arrays, axis=1, dtype=kind)


def agree(rows: Sequence[int], cut: bool) -> bool:
    """Return whether the streams of a video can be joined.

    Args:
        rows: number of rows of each.
        cut: whether they may differ by one row.
    """
    return max(rows) - min(rows) <= int(cut)


def remedy_for(rows: Sequence[int]) -> str:
    """Return what helps where the streams of a video have these numbers of rows."""
    if max(rows) - min(rows) == 1:
        return "Optical flow has a frame less than RGB: state cut_streams = true in dataset.toml to cut the longer one."
    return "Extract both with one window and stride."


def check_finite(features: FloatArray, name: str) -> None:
    """Refuse NaN, infinity and numbers that are infinite in float32, reading a few rows at a time.

    Args:
        features: `[T, D]`.
        name: file or video, for the message.

    Raises:
        UserError: there is such a value. The message names the first bad row.
    """
    for start in range(0, len(features), _CHECK_ROWS):
        rows = features[start : start + _CHECK_ROWS]
        with np.errstate(over="ignore"):
            good = np.isfinite(rows if rows.itemsize <= 4 else rows.astype(np.float32)).all(axis=1)
        if not good.all():
            row = start + int(np.argmin(good))
            raise UserError(f"{name}: row {row} of {len(features)} has NaN or infinity. Extract the features again.")


class StoredFeatures:
    """Features of one video that stay on disk, as the `source` of a `Video`.

    Each call opens the files and closes them again: an open memory map holds a file descriptor, and ActivityNet has
    more videos than a process may have files open. While the array of an earlier call is still in use, a call returns
    the same one. Values are checked in the first call.

    Args:
        video: name of the video, for messages.
        files: its feature files.
    """

    def __init__(self, video: str, files: FeatureFiles) -> None:
        self.video = video
        self.files = files
        self._checked = False
        self._last: Callable[[], FloatArray | None] = lambda: None

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredFeatures, (self.video, self.files)

    def __len__(self) -> int:
        """Return T, from the files' headers."""
        return self.files.header().rows

    def __call__(self) -> FloatArray:
        """Read `[T, D]` features, float16 or float32.

        Raises:
            UserError: a file is broken or a value is not finite.
        """
        if (last := self._last()) is not None:
            return last
        features = self.files.read()
        if not self._checked:
            check_finite(features, f"Features of {self.video}")
            self._checked = True
        self._last = weakref.ref(features)
        return features


def in_memory(
    videos: Sequence[Video], room: int | None = None, on_progress: OnProgress = lambda *_: None
) -> list[Video]:
    """Read and check the features of all videos, and keep them in memory, in the type of their files, if there is room.

    Training reads each video in every epoch, and opening a file takes longer than copying the rows of a sample.

    Args:
        videos: the videos, of which those in memory are kept.
        room: bytes available (by default an eighth of the machine's memory, so that several runs fit at once).
        on_progress: called after each video, in the stage `read`.
    """
    if room is None:
        room = memory_size() // 8
    fits = sum(_size(video) for video in videos) <= room
    kept = []
    for number, video in enumerate(videos, 1):
        features = video.features
        kept.append(replace(video, source=np.array(features)) if fits and callable(video.source) else video)
        on_progress("read", number, len(videos), "training videos")
    return kept


def _size(video: Video) -> int:
    """Return the bytes of features that are not in memory, without reading those of files."""
    if isinstance(video.source, StoredFeatures):
        return video.source.files.header().nbytes
    return video.features.nbytes if callable(video.source) else 0


def some(names: Sequence[str], shown: int = 4) -> str:
    """List a few names and how many more there are, for messages.

    Args:
        names: all names.
        shown: most names to list.

    >>> some(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    more = len(names) - shown
    return ", ".join(printable(name) for name in names[:shown]) + (f" and {more} more" if more > 0 else "")
