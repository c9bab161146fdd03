"""Write the files that a run leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from harness.data.detections import write_detections
from harness.io.atomic import atomic_write
from harness.io.encoding import sha256, sha256_file
from wstal.types import Detections, SnippetScores


def save_scores(path: Path, scores: list[SnippetScores]) -> str:
    """Write snippet scores as safetensors and return their SHA-256."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for one in scores:
        for name, signal in one.signals.items():
            arrays[f"{one.video}/{name}"] = np.ascontiguousarray(signal, dtype=np.float32)
        for name, values in one.class_scores.items():
            arrays[f"{one.video}/class_scores/{name}"] = np.ascontiguousarray(values, dtype=np.float32)
        arrays[f"{one.video}/video_scores"] = np.ascontiguousarray(one.video_scores, dtype=np.float32)
        arrays[f"{one.video}/clock"] = np.array([one.seconds_per_snippet, one.offset])
    return save_bytes(path, safetensors.numpy.save(arrays))


def save_detections(path: Path, detections: Detections) -> str:
    """Write detections as gzipped JSON and return their SHA-256."""
    write_detections(path, detections)
    return sha256_file(path)


def save_bytes(path: Path, data: bytes) -> str:
    """Write a file and return its SHA-256."""
    atomic_write(path, data)
    return sha256(data)
