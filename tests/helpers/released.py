"""Comparisons with tensors recorded from released code."""

from __future__ import annotations

import numpy as np
import torch

from wstal.types import Detections

SECONDS = 0.64


def noise(seed: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """`[400, 3]` smooth noise around the thresholds, and scores of which the last class's just passes, inclusively."""
    rng = np.random.default_rng(seed)
    walk = np.stack([np.convolve(rng.standard_normal(402), np.ones(3) / 3, "valid") for _ in range(3)], axis=1)
    spread = high - low
    return (low + high) / 2 + spread * walk, np.array([0.5, 0.3, 0.1])


def plain_detections(
    cas: np.ndarray, video_scores: np.ndarray, thresholds: np.ndarray, shortest: int, outer_weight: float, limit: float
) -> list[tuple[int, float, int, int]]:
    """The post-processing that FAC-Net and RSKP share, in whole snippets: rows of class, score, start and end."""
    found = []
    for label in np.flatnonzero(video_scores >= 0.1).tolist():
        values, rows = cas[:, label].tolist(), []
        for threshold in thresholds:
            active = [False, *(value > threshold for value in values), False]
            starts = [t for t in range(len(values) + 1) if active[t + 1 : t + 2] == [True] and not active[t]]
            for a in starts:
                b = a + active[a + 1 :].index(False)
                if b - a < shortest:
                    continue
                reach = 0.25 * (b - a)
                outside = [*range(max(0, int(a - reach)), a), *range(b + 1, min(len(values) - 1, int(b + reach + 1)))]
                inner = np.mean(values[a : b + 1])
                outer = np.mean([values[t] for t in outside]) if outside else 0.0
                rows.append((label, inner - outer_weight * outer, a, b + 1))
        found += plain_nms(rows, limit)
    return found


def same_rows(detections: Detections, expected: list[tuple[int, float, int, int]]) -> None:
    made = np.stack([detections.label, detections.start / SECONDS, detections.end / SECONDS, detections.score], axis=1)
    wanted = np.array([[label, start, end, score] for label, score, start, end in expected])
    np.testing.assert_allclose(made[np.lexsort(made.T[:3].round(6))], wanted[np.lexsort(wanted.T[:3])], atol=1e-12)


def close(actual: torch.Tensor, expected: np.ndarray, scale: float = 0.0) -> None:
    """Within 1e-5; what is `scale` times a signed cosine cannot be nearer than that cosine's own rounding."""
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=1e-5, atol=1e-8 + 1e-7 * scale)


def plain_nms(rows: list[tuple[int, float, int, int]], limit: float) -> list[tuple[int, float, int, int]]:
    """Best first; a row goes where it overlaps a better one by more than `limit` of its own length."""
    stays: list[tuple[int, float, int, int]] = []
    for row in sorted(rows, key=lambda row: -row[1]):
        length = row[3] - row[2] + 1
        shared = [max(0, min(row[3], other[3]) - max(row[2], other[2]) + 1) for other in stays]
        if all(count / length <= limit for count in shared):
            stays.append(row)
    return stays
