"""Reading of JSON, TOML and other files with limits on size, nesting and numbers."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import stat
import tomllib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.io.kinds import kind_of
from harness.io.text import printable
from wstal.errors import MissingDataError, UserError

# parsed JSON takes up to twenty times its size in memory; ActivityNet 1.3's annotations have 13 MB
LARGEST = 2**27  # bytes
LARGEST_TOML = 2**20  # bytes
DEEPEST = 64  # brackets within brackets, parts of a dotted key
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # as JSON escapes it
# tomllib takes time that is quadratic in a key's parts
_LONG_KEY = re.compile(rf"(\.[^.=,\[\]\n]*){{{DEEPEST},}}")


# size, times of the last change of content and of anything, and inode: another one means that a file may be another
Status = tuple[int, int, int, int]


def status_of(found: os.stat_result) -> Status:
    """Return what tells whether a file is still the one that was read.

    The change time and the inode reveal a file that was replaced by one of equal size and modification time.
    """
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading without waiting for the writer of a pipe, as `open` does.

    Raises:
        OSError: it cannot be opened, or is a folder, pipe or device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL in the path
        raise FileNotFoundError(2, "No such file", str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "Not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_limited(path: Path, largest: int | None = None) -> bytes:
    """Read a whole file of limited size.

    Args:
        path: the file.
        largest: most bytes that it may have (default: `LARGEST`).

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is no regular file or is too large.
    """
    largest = LARGEST if largest is None else largest
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = b"" if size > largest else file.read(size + 1)
            if len(content) > size:  # it grows, or is one of the system's that state no size
                content += file.read(largest + 1 - size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingDataError(f"{path} is not there. Check the path.") from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    if max(size, len(content)) > largest:
        raise UserError(f"{path} has {size / 2**20:,.0f} MiB, more than the limit of {largest / 2**20:,.0f} MiB.")
    return content


def read_text(path: Path, remedy: str = "") -> str:
    """Read a UTF-8 text file.

    Args:
        path: the file.
        remedy: last sentence of the message about a file that is not text.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is too large or is not UTF-8.
    """
    try:
        return read_limited(path).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file ({error}). {remedy}".rstrip()) from error


def unzipped(content: bytes, path: Path, largest: int, remedy: str = "") -> bytes:
    """Return the content of a file, decompressed if it is gzip.

    Args:
        content: bytes of the file.
        path: the file, for messages.
        largest: most bytes that it may hold.
        remedy: last sentence of the message about a file that holds more.

    Raises:
        UserError: it is not complete, or holds too much.
    """
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            content = file.read(largest + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a complete gzip file ({error}). Fetch or write it again.") from error
    if len(content) > largest:
        limit = f"{largest / 2**20:,.0f} MiB"
        raise UserError(f"{path} holds more than {limit} of JSON, the limit. {remedy}".rstrip())
    return content


class _RefusedJSONError(ValueError):
    """Error for JSON that the standard allows and this harness refuses: the message ends with the remedy."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs, as the object hook of JSON readers, and refuse a key that is given twice.

    Raises:
        ValueError: naming the key.
    """
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _RefusedJSONError(f"'{printable(twice)}' is given twice in one object. Remove one.")
    return fields


def parse_json(
    content: bytes,
    path: Path,
    remedy: str = "Fetch or write it again.",
    hook: Callable[[list[tuple[str, Any]]], Any] = unique_keys,
    largest_integer: int | None = None,
    form: str = "",
) -> Any:
    """Parse a file's content as JSON.

    Args:
        content: bytes of the file.
        path: the file, for messages.
        remedy: last sentence of the message about a damaged file.
        hook: function that makes an object of its pairs.
        largest_integer: largest absolute value of an integer (by default any, floats have their own limit).
        form: expected form, for the message about a file of another kind.

    Raises:
        UserError: not JSON, a key twice in one object, brackets nested too deep, or an integer too large.
    """

    def integer(text: str) -> int:
        value = int(text)
        if largest_integer is not None and abs(value) > largest_integer:
            raise _RefusedJSONError(f"it has an integer of {len(text)} digits. {remedy}")
        return value

    try:
        value = json.loads(content, object_pairs_hook=hook, parse_int=None if largest_integer is None else integer)
        check_depth(value)
    except _RefusedJSONError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        if form and (kind := kind_of(content)):
            raise UserError(
                f"{path} is not valid JSON but {kind}. Turn it into ActivityNet-style JSON. {form}"
            ) from error
        raise UserError(f"{path} is not valid JSON, or cut off ({error}). {remedy}") from error
    return value


def check_depth(value: Any) -> None:
    """Refuse lists and objects nested so deeply that recursive code would run out of stack.

    Raises:
        ValueError: deeper than `DEEPEST`.
    """
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for one in level for inner in _members(one)]
    if level:
        raise ValueError(f"nested deeper than {DEEPEST} levels")


def _members(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def read_json(path: Path) -> Any:
    """Read a JSON file that this harness wrote.

    Raises:
        UserError: the file is absent, unreadable, too large or refused by `parse_own_json`.
    """
    return parse_own_json(read_own(path), path)


def read_own(path: Path) -> bytes:
    """Return the content of a file that this harness wrote.

    Raises:
        UserError: the file is absent, unreadable or too large.
    """
    try:
        return read_limited(path)
    except MissingDataError as error:
        raise UserError(f"Cannot read {path}: No such file.") from error


def parse_own_json(content: bytes, path: Path) -> Any:
    """Return the JSON value that this harness wrote.

    Args:
        content: of a file, or a line of one.
        path: where it stands, for messages.

    Raises:
        UserError: the content is not JSON, or has a key twice in one object, an integer of more than 64 bits, or text
            that UTF-8 cannot encode.
    """
    remedy = "Restore it, or remove it and run again."
    value = parse_json(content, path, remedy, largest_integer=2**64)
    if _SURROGATE.search(content):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{path} has text that UTF-8 cannot encode ({error}). {remedy}") from error
    return value


def read_toml(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: the file.
        remedy: last sentence of the message about a damaged file.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is too large, not TOML, or nested too deep.
    """
    try:
        return parse_toml(read_limited(path, LARGEST_TOML).decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML ({error}). {remedy}".rstrip()) from error


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML as `tomllib.loads` does, with limits on nesting.

    Raises:
        ValueError: it is not TOML, has a key of too many parts or is nested too deeply.
        RecursionError: it is nested much too deeply.
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {DEEPEST} parts")
    value = tomllib.loads(text)
    check_depth(value)
    return value
