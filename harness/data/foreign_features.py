"""Features in the forms of other projects: which file holds what of which video, and its array as `[T, width]`."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.feature_layout import check_name
from harness.data.features import naming_damage, parse_header, some
from harness.data.unpickle import load_array
from harness.io.reading import open_regular, read_limited, read_text
from wstal.errors import MissingDataError, UserError

Array = npt.NDArray[Any]
STREAMS = ("rgb", "flow")
JOINT = "joint"
LARGEST = 2**32  # bytes of one video's file
USUAL_WIDTHS = (200, 400, 500, 512, 768, 1024, 1408, 2048, 2304, 3072, 4096)
CROPS = (10, 5, 3)
ENDINGS = (".npy", ".npz", ".pt", ".pth", ".h5", ".hdf5", ".csv")
_STREAM_SUFFIX = re.compile(r"(.+?)[_\-.](rgb|flow)", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """One stream of one video, somewhere in a file.

    Args:
        video: its name, as the file has it.
        stream: `rgb`, `flow` or `joint`.
        path: of the file.
        keys: of the array inside, one a level; empty where the file is the array.
    """

    video: str
    stream: str
    path: Path
    keys: tuple[str, ...] = ()

    def shape(self) -> tuple[int, ...]:
        """Return the array's shape, without reading its values where the file has a header.

        Raises:
            UserError: as `read`.
        """
        if self.path.suffix.lower() == ".npy" and not self.keys:
            with naming_damage(self.path), open_regular(self.path) as file:
                return parse_header(file)[0]
        with _opened(self.path) as content:
            for key in self.keys:
                content = content[key]
            return tuple(np.shape(content))

    def read(self) -> Array:
        """Read the array as it is stored.

        Raises:
            UserError: the file is damaged, or holds something else.
        """
        with _opened(self.path) as content:
            for key in self.keys:
                content = content[key]
            return np.asarray(content)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file as an array, or as a mapping of arrays and of mappings."""
    kind = path.suffix.lower()
    with naming_damage(path):
        if kind == ".npy":
            array = load_array(path)
            yield array.item() if array.shape == () and array.dtype.hasobject else array
        elif kind == ".npz":
            with np.load(io.BytesIO(read_limited(path, LARGEST)), allow_pickle=False) as archive:
                yield archive
        elif kind in (".pt", ".pth"):
            yield _arrays_of_torch(path)
        elif kind == ".csv":
            yield _table(path)
        else:
            with _hdf5(path) as file:
                yield file


def _arrays_of_torch(path: Path) -> Any:
    import torch

    try:
        content = torch.load(io.BytesIO(read_limited(path, LARGEST)), map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # of many kinds: torch and pickle do not say which
        # not torch's own words, which advise to run what the file says
        raise UserError(f"{path} holds more than tensors, or is damaged. Save the tensors alone.") from error

    def arrays(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
        return {str(key): arrays(one) for key, one in value.items()} if isinstance(value, Mapping) else value

    return arrays(content)


def _table(path: Path) -> Array:
    """Return the numbers of a table, whose first line may name columns."""
    lines = [line for line in csv.reader(io.StringIO(read_text(path))) if line]
    try:
        try:
            return np.array(lines, dtype=np.float32)
        except ValueError:
            return np.array(lines[1:], dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{path} is no table of numbers with one row a snippet ({error}).") from error


@contextmanager
def _hdf5(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"Reading {path.name} needs h5py: pip install 'wstal-bench[h5]'.") from error
    with h5py.File(path, "r") as file:
        yield file


def find_parts(source: Path, key: str | None = None) -> list[Part]:
    """List what a file or folder of features holds, in the order of names.

    Args:
        source: folder of one file a video or a stream of a video, or one HDF5 file with an entry a video.
        key: name of the array inside files that hold several.

    Raises:
        MissingDataError: there is nothing, or no feature file.
        UserError: a file holds several arrays of which none is named, or two files are for one stream of a video.
    """
    if os.path.isfile(source):
        if source.suffix.lower() not in (".h5", ".hdf5"):
            raise UserError(f"{source} is one file. Give the folder of the videos' files, or one HDF5 file of all.")
        with _opened(source) as content:
            parts = [part for name in content for part in _inside(content[name], name, source, (name,), key)]
    elif os.path.isdir(source):
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
        files = [path for path in files if not path.name.startswith((".", "labels.csv"))]
        parts = [part for path in files for part in _of_file(path, source, key)]
    else:
        raise MissingDataError(f"{source} is not there. Check the path.")
    if not parts:
        raise MissingDataError(f"{source} has no features: there is no file ending in {', '.join(ENDINGS)}.")
    seen: dict[tuple[str, str], Part] = {}
    for part in parts:
        check_name(part.video)
        if (before := seen.setdefault((part.video, part.stream), part)) is not part:
            raise UserError(f"{before.path} and {part.path} are both the {part.stream} features of {part.video}.")
    return parts


def _of_file(path: Path, root: Path, key: str | None) -> list[Part]:
    stem, stream = path.stem, JOINT
    if match := _STREAM_SUFFIX.fullmatch(stem):
        stem, stream = match[1], match[2].lower()
    folders = [part.casefold() for part in path.relative_to(root).parts[:-1]]
    stream = next((one for one in STREAMS if one in folders), stream)
    if path.suffix.lower() == ".csv" or (path.suffix.lower() == ".npy" and not _is_object(path)):
        return [Part(stem, stream, path)]
    with _opened(path) as content:
        return _inside(content, stem, path, (), key, stream)


def _is_object(path: Path) -> bool:
    with naming_damage(path), open_regular(path) as file:
        return parse_header(file)[2].hasobject


def _inside(
    content: Any, video: str, path: Path, keys: tuple[str, ...], key: str | None, stream: str = JOINT
) -> list[Part]:
    """Return the parts of one video: an array, or a mapping whose keys name streams or hold one array."""
    if not hasattr(content, "keys"):
        return [Part(video, stream, path, keys)]
    names = [str(name) for name in content if np.ndim(content[name]) > 1]
    if key is not None:
        if key not in names:
            raise UserError(f"{path} has no array {key!r} for {video}. It has: {some(names) or 'none'}.")
        return [Part(video, stream, path, (*keys, key))]
    named = {one: [name for name in names if one in name.casefold()] for one in STREAMS}
    if all(len(found) == 1 for found in named.values()):
        return [Part(video, one, path, (*keys, found[0])) for one, found in named.items()]
    if len(names) == 1:
        return [Part(video, stream, path, (*keys, names[0]))]
    raise UserError(
        f"{path} has {len(names)} arrays for {video}: {some(names) or 'none'}. Name the one to take with --key."
    )


def axes_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Tell what the axes of a stream's arrays are: `T` time, `D` columns, `C` crops, `1` of length one.

    Args:
        shapes: shape of each video's array.

    Returns:
        A letter an axis, as `TD` or `TCD`.

    Raises:
        UserError: the shapes differ in kind, or several readings are possible. The message names the option.
    """
    known = list(shapes.values())
    if len({len(shape) for shape in known}) > 1:
        raise UserError(f"The arrays have different numbers of axes: {some([str(s) for s in set(known)])}.")
    # an axis of one number in all videos is no time, unless all have it
    fixed = [len({shape[axis] for shape in known}) == 1 for axis in range(len(known[0]))]
    letters = ["1" if still and known[0][axis] == 1 else "?" for axis, still in enumerate(fixed)]
    left = [axis for axis, letter in enumerate(letters) if letter == "?"]
    crops = [axis for axis in left if fixed[axis] and known[0][axis] in CROPS]
    if len(left) == 3 and len(crops) == 1:
        letters[crops[0]] = "C"
        left.remove(crops[0])
    usual = [axis for axis in left if fixed[axis] and known[0][axis] in USUAL_WIDTHS]
    moving = [axis for axis in left if not fixed[axis]]
    if len(left) == 2 and (len(moving) == 1 or len(usual) == 1):
        time = moving[0] if len(moving) == 1 else next(axis for axis in left if axis not in usual)
        for axis in left:
            letters[axis] = "T" if axis == time else "D"
        return "".join(letters)
    example = next(iter(shapes))
    raise UserError(
        f"It is not clear which axis of {list(shapes[example])} ({example}, {len(known)} videos) is time. State it "
        "with --axes: TD for [time, columns], DT for [columns, time], TCD or CTD with crops."
    )


def check_axes(axes: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the given axes, for which length-one axes may be left out, as one letter an axis of the arrays.

    Args:
        axes: as the user states it.
        shapes: shape of each video's array.

    Raises:
        UserError: they are no axes, or not those of the arrays.
    """
    example, shape = next(iter(shapes.items()))
    letters = iter(axes)
    given = axes if len(axes) == len(shape) else "".join("1" if n == 1 else next(letters, "") for n in shape)
    if sorted(given.replace("1", "").replace("C", "")) != ["D", "T"] or len(given) != len(shape) or "CC" in given:
        raise UserError(f"--axes {axes} are not the axes of {list(shape)} ({example}). Give a letter an axis, as TD.")
    return given


def as_rows(array: Array, axes: str) -> Array:
    """Return an array as `[T, width]` float16 or float32, the mean of its crops.

    Args:
        array: of a video's stream.
        axes: a letter an axis.
    """
    kind = np.float16 if array.dtype == np.float16 else np.float32
    moved = array.transpose([axes.index("T"), axes.index("D"), *(i for i, a in enumerate(axes) if a not in "TD")])
    return np.asarray(
        moved.reshape(*moved.shape[:2], -1).mean(axis=2, dtype=np.float32) if moved.ndim > 2 else moved, kind
    )
