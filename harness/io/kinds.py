"""Kinds of files by their first bytes, for messages about a file of another kind than expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from harness.io.text import printable

_FIRST_BYTES = {
    b"\x1f\x8b": "a gzip file",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip archive, as .npz and .pt files are",
    b"\x80": "a pickle",
    b"MATLAB": "a MATLAB file",
}
_TEXT = frozenset(map(chr, range(32, 127))) | set("\t\r\n")
# other forms in which features circulate
FEATURE_FORMS = (".npz", ".csv", ".pkl", ".pickle", ".h5", ".hdf5", ".pt", ".pth", ".mat", ".txt", ".gz", ".zip")

VIDEO_FORMS = (
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".ogv",
)  # fmt: skip


def kind_of(content: bytes) -> str:
    """Name the kind of a file that is not JSON, or return an empty text where it may be JSON or is unknown.

    >>> kind_of(b"video,start,end"), kind_of(b'{"a": ')
    ('a CSV table', '')
    """
    for first, name in _FIRST_BYTES.items():
        if content.startswith(first):
            return name
    line = content[:4096].lstrip().decode(errors="replace").split("\n")[0].strip()
    if not line or line[0] in "{[" or not _TEXT.issuperset(line):
        return ""
    return "a CSV table" if "," in line or "\t" in line else f"other text, '{printable(line, 40)}'"


def other_files(folder: Path, forms: Iterable[str]) -> str:
    """Count the files below a folder that have one of these endings, most frequent first, as `2 .npz files`.

    Args:
        folder: where to look.
        forms: endings with a dot.
    """
    found = Counter(path.suffix.lower() for path in folder.rglob("*") if path.suffix.lower() in set(forms))
    return ", ".join(f"{count} {form} files" for form, count in found.most_common(3))
