"""Files of another kind than expected are named by what they are."""

from __future__ import annotations

import gzip
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from harness.data.annotations import read_annotations
from harness.data.detections import read_detections
from harness.io.kinds import FEATURE_FORMS, kind_of, other_files
from wstal.errors import UserError


def saved(save: object, *values: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *values)  # type: ignore[operator]
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (gzip.compress(b"{}"), "a gzip file"),
        (pickle.dumps({}), "a pickle"),
        (saved(np.save, np.zeros(3)), "a NumPy array (.npy)"),
        (saved(np.savez, np.zeros(3)), "a zip archive, as .npz and .pt files are"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
        (b"video,start,end\nv,1,2\n", "a CSV table"),
        (b"video\tstart\n", "a CSV table"),
        (b"te0 4.0 25.0 1 0.9\n", "other text, 'te0 4.0 25.0 1 0.9'"),
        (b'{"database": ', ""),
        (b" \n[1, 2", ""),
        (b"", ""),
        (b"\xff\xfe\x00\x01", ""),
    ],
)
def test_kinds(content: bytes, kind: str) -> None:
    assert kind_of(content) == kind


@pytest.mark.parametrize("read", [read_annotations, read_detections])
def test_readers_name_them_and_the_wanted_form(tmp_path: Path, read: object) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"is not valid JSON but a pickle\. Turn it into ActivityNet-style JSON\. Exp"):
        read(path)  # type: ignore[operator]


def test_feature_files_of_other_forms_are_counted(tmp_path: Path) -> None:
    for name in ("a.npz", "b.NPZ", "c.csv", "d.md"):
        (tmp_path / name).write_bytes(b"")
    assert other_files(tmp_path, FEATURE_FORMS) == "2 .npz files, 1 .csv files"
