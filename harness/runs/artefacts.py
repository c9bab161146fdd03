"""Write the files that a run leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from harness.data.detections import write_detections
from harness.io.atomic import atomic_write, atomic_write_parts
from harness.io.encoding import sha256, sha256_file
from wstal.types import Detections, SnippetScores

# in the order of safetensors' files: wide types first, so that every tensor begins at a multiple of its type's size
SAFETENSORS_TYPES = {
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32", torch.bfloat16: "BF16",
    torch.float16: "F16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


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


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors as safetensors and return the file's SHA-256.

    One tensor after the other goes to the file: `safetensors.torch.save` would hold all of them twice more, which for
    a checkpoint with ActivityNet's memory bank is 3 GB.

    Args:
        path: file to write.
        tensors: on any device, by name.
    """
    digest = hashlib.sha256()

    def parts() -> Iterator[bytes | memoryview]:
        for part in _safetensors(tensors):
            digest.update(part)
            yield part

    atomic_write_parts(path, parts())
    return digest.hexdigest()


def _safetensors(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the parts of a safetensors file: the header's length, the header, and each tensor's bytes."""
    types = list(SAFETENSORS_TYPES)
    order = sorted(tensors, key=lambda name: (types.index(tensors[name].dtype), name))
    header, end = dict[str, Any](), 0
    for name in order:
        value = tensors[name]
        begin, end = end, end + value.numel() * value.element_size()
        header[name] = {
            "dtype": SAFETENSORS_TYPES[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in order:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        if len(flat):
            yield flat.view(torch.uint8).numpy().data
