"""The one way files are written, complete or absent, never half; and the one way foreign ones are read, with limits."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import stat
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wstal.errors import MissingDataError, StoreError, UserError

if TYPE_CHECKING:
    from pydantic import ValidationError

# parsed JSON takes up to twenty times its size in memory; ActivityNet 1.3's annotations have 13 MB
LARGEST = 2**27
LARGEST_TOML = 2**20
DEEPEST = 64  # brackets within brackets, parts of a dotted key
LONGEST_NAME = 1_000  # characters
# what would break a message's line, or the terminal; half of a surrogate pair, which UTF-8 cannot encode
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # as JSON escapes it
# tomllib takes time that is quadratic in a key's parts
_LONG_KEY = re.compile(rf"(\.[^.=,\[\]\n]*){{{DEEPEST},}}")


def atomic_write(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, flush it to disk and rename it into place.

    Raises:
        StoreError: the folder cannot be written or the disk is full; `path` is then as it was.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a store may be shared, so follow the process's umask as open() does
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise StoreError(
            f"Cannot write {path}: {error.strerror or error}. Choose a folder that is writable and has room."
        ) from error


def check_writable(folder: Path) -> None:
    """Make a folder and see that files can be written there, before hours of work whose result is to go there.

    Raises:
        StoreError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"Cannot write to {folder}: {error.strerror or error}. Choose a folder that is writable."
        ) from error


def canonical_json(value: Any) -> bytes:
    """The one byte form of a JSON value: sorted keys, no spaces, no NaN; what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def pretty_json(value: Any) -> bytes:
    """A JSON value for people and `git diff`: two-space indent, keys in the order given, no NaN."""
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading; unlike `open`, never wait for who might write to a pipe.

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
    """The content of a file that is there, readable, no pipe, and not too large.

    Args:
        path: the file.
        largest: bytes that it may have (default: `LARGEST`).

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read or is too large.
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


class _RefusedJSONError(ValueError):
    """What JSON allows and this harness does not: says what and the remedy."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object hook of JSON readers: a key that is given twice is an error, not a silent loss.

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
) -> Any:
    """The JSON value in a file's content.

    Args:
        content: of the file.
        path: the file, for messages.
        remedy: how the message on a damaged file ends.
        hook: makes an object of its pairs.
        largest_integer: size up to which integers are taken (default: any; floats have their own limit).

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
        raise UserError(f"{path} is not valid JSON, or cut off ({error}). {remedy}") from error
    return value


def check_depth(value: Any) -> None:
    """Refuse a value of lists and objects nested so deep that what walks through it would run out of stack.

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
    """The value in a JSON file that this harness wrote.

    Raises:
        UserError: the file is absent, unreadable, too large or not JSON, has a key twice in one object, an integer of
            more than 64 bits, or text that UTF-8 cannot encode.
    """
    try:
        content = read_limited(path)
    except MissingDataError as error:
        raise UserError(f"Cannot read {path}: No such file.") from error
    remedy = "Restore it, or remove it and run again."
    value = parse_json(content, path, remedy, largest_integer=2**64)
    if _SURROGATE.search(content):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{path} has text that UTF-8 cannot encode ({error}). {remedy}") from error
    return value


def read_toml(path: Path, remedy: str = "") -> dict[str, Any]:
    """The table in a TOML file.

    Args:
        path: the file.
        remedy: how the message on a damaged file ends.

    Raises:
        MissingDataError: there is no such file.
        UserError: it cannot be read, is too large, not TOML, or nested too deep.
    """
    try:
        return parse_toml(read_limited(path, LARGEST_TOML).decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid TOML ({error}). {remedy}".rstrip()) from error


def parse_toml(text: str) -> dict[str, Any]:
    """As `tomllib.loads`, for text from elsewhere.

    Raises:
        ValueError: not TOML, or a key with too many parts; what is nested too deep is this or a RecursionError.
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {DEEPEST} parts")
    value = tomllib.loads(text)
    check_depth(value)
    return value


def printable(text: str, longest: int = 200) -> str:
    """Text from a file as a line of a message can hold it: control characters escaped, cut."""
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def check_text(text: str, what: str) -> None:
    r"""Refuse a name that no line or terminal can hold: control characters, half of a surrogate pair (`"\ud800"`).

    Raises:
        UserError: it has one, or is very long; the message starts with `what`.
    """
    if len(text) > LONGEST_NAME:
        raise UserError(f"{what}: {printable(text, 60)!r} is longer than {LONGEST_NAME:,} characters. Correct it.")
    if match := UNPRINTABLE.search(text):
        fault = "is not text that UTF-8 can encode" if "\ud800" <= match[0] <= "\udfff" else "has control characters"
        raise UserError(f"{what}: '{printable(text)}' {fault}. Correct it.")


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in pieces.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error


def problems(error: ValidationError) -> str:
    """Fields of a file and what is wrong with each; the first three say enough."""
    return "; ".join(
        f"`{field(item['loc'])}`: {problem(item['msg'])}"
        for item in error.errors(include_url=False, include_input=False)[:3]
    )


def problem(message: str) -> str:
    """What pydantic says of a value, in the words of TOML and JSON, which have lists where the models have tuples."""
    return printable(message.removeprefix("Value error, ").replace("a valid tuple", "a list"))


def field(location: Sequence[int | str]) -> str:
    """A field's dotted name."""
    return printable(".".join(map(str, location))) or "file"
