"""Snippet scores of trained methods, and the localizer that all methods have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.io.console import OnProgress
from harness.registry import load_method
from wstal.localize import LocalizerSpec
from wstal.method import Method, TrainSpec
from wstal.types import FloatArray, SnippetScores, Video

COMMON = "acmnet"


def common_localizer(family: str) -> LocalizerSpec:
    """Return the settings that every method is localized with besides its own: ACM-Net's for the family of data sets.

    They tell the gains of a model from those of its post-processing.
    """
    return load_method(COMMON).recipe(family).localizer


@torch.no_grad()
def score_videos(
    method: Method,
    videos: Sequence[Video],
    spec: TrainSpec,
    on_progress: OnProgress = lambda *_: None,
) -> list[SnippetScores]:
    """Score whole videos one by one in evaluation mode.

    Args:
        method: trained, on its device; left in evaluation mode.
        videos: any length; longer ones than `spec.test_length` are sampled down.
        spec: gives the test length.
        on_progress: called after each video.

    Returns:
        One entry a video, in order, signals as float64 arrays.
    """
    method.eval()
    scored = []
    for number, video in enumerate(videos, 1):
        length = len(video.features)
        rows = method.test_indices(length, spec.test_length)
        features = torch.from_numpy(np.asarray(video.features[rows], dtype=np.float32)).to(method.device)
        scores = method.score(features)
        scored.append(
            SnippetScores(
                video=video.name,
                signals=_arrays(scores.signals),
                video_scores=scores.video_scores.double().cpu().numpy(),
                seconds_per_snippet=video.seconds_per_snippet * length / len(rows),
                offset=video.offset,
                class_scores=_arrays(scores.class_scores),
            )
        )
        on_progress("score", number, len(videos), "")
    return scored


def _arrays(tensors: dict[str, Tensor]) -> dict[str, FloatArray]:
    return {name: tensor.double().cpu().numpy() for name, tensor in tensors.items()}
