"""Write the files that a run leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.detections import write_detections
from harness.io.atomic import atomic_write
from harness.io.encoding import sha256, sha256_file
from harness.io.tensor_file import TensorFile
from wstal.types import PROPOSALS, Detections, SnippetScores


def add_scores(file: TensorFile, scores: SnippetScores) -> None:
    """Add the snippet scores of a video to a file.

    Args:
        file: of a run's scores.
        scores: of one video.
    """
    for name, signal in scores.signals.items():
        file.add(f"{scores.video}/{name}", np.asarray(signal, dtype=np.float32))
    for name, values in scores.class_scores.items():
        file.add(f"{scores.video}/class_scores/{name}", np.asarray(values, dtype=np.float32))
    if scores.proposals is not None:  # not rounded to float32: a proposal's score decides ties
        file.add(f"{scores.video}/{PROPOSALS}", np.asarray(scores.proposals, dtype=np.float64))
    file.add(f"{scores.video}/video_scores", np.asarray(scores.video_scores, dtype=np.float32))
    file.add(f"{scores.video}/clock", np.array([scores.seconds_per_snippet, scores.offset]))


def save_detections(path: Path, detections: Detections) -> str:
    """Write detections as gzipped JSON and return their SHA-256."""
    write_detections(path, detections)
    return sha256_file(path)


def save_bytes(path: Path, data: bytes) -> str:
    """Write a file and return its SHA-256."""
    atomic_write(path, data)
    return sha256(data)
