"""Suppression and interpolation of plain columns, as tests write them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from wstal.localize import nms
from wstal.localize.tracks import lay_out
from wstal.types import FloatArray, Floats, IntArray


def rows(columns: tuple[np.ndarray, ...], plus: float | FloatArray) -> nms.Rows:
    start, end, score, group = columns
    return nms.Rows(start, end, score, group, np.broadcast_to(plus, len(group)))


def hard_nms(
    *columns: np.ndarray, threshold: float, kind: Literal["iou", "own"] = "iou", plus: float | FloatArray = 0.0
) -> IntArray:
    """Rows that stay, by group and score, then start and end."""
    start, end, score, group = columns
    kept, scores = nms.hard_nms(rows(columns, plus), threshold, kind)
    assert np.array_equal(scores, score[kept])
    return kept[np.lexsort((end[kept], start[kept], -score[kept], group[kept]))]


def hard_decayed_nms(
    *columns: np.ndarray,
    threshold: float,
    sigma: float,
    kind: Literal["iou", "own"] = "iou",
    plus: float | FloatArray = 0.0,
) -> tuple[IntArray, Floats]:
    return nms.hard_nms(rows(columns, plus), threshold, kind, sigma)


def soft_nms(
    *columns: np.ndarray, sigma: float, kind: Literal["iou", "own"] = "iou", plus: float | FloatArray = 0.0
) -> tuple[IntArray, Floats]:
    return nms.soft_nms(rows(columns, plus), sigma, kind)


def upsample(signal: FloatArray, upsampling: int) -> Floats:
    """Samples of one `[T]` signal at rows 0, 1/s, ..., T - 1/s."""
    return lay_out([signal], upsampling).samples[:-1].reshape(-1)
