"""JSON bytes that are equal for equal values, and SHA-256 digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.io.reading import open_regular
from wstal.errors import UserError


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value in its only byte form, for digests: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def pretty_json(value: Any) -> bytes:
    """Encode a JSON value for people and `git diff`: two-space indent, keys in their given order, no NaN."""
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content, read in pieces.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
