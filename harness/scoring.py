"""From trained weights to snippet scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from wstal.method import Method, TrainSpec
from wstal.types import SnippetScores, Video


@torch.no_grad()
def score_videos(
    method: Method,
    videos: Sequence[Video],
    spec: TrainSpec,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SnippetScores]:
    """Score whole videos one by one in evaluation mode.

    Args:
        method: trained, on its device; left in evaluation mode.
        videos: any length; longer ones than `spec.test_length` are sampled down.
        spec: gives the test length.
        progress: called with (videos done, videos).

    Returns:
        One entry a video, in order, signals as float64 arrays.
    """
    method.eval()
    scored = []
    for number, video in enumerate(videos, 1):
        length = len(video.features)
        rows = method.test_indices(length, spec.test_length)
        features = torch.from_numpy(np.asarray(video.features[rows], dtype=np.float32)).to(method.device)
        signals, video_scores = method.score(features)
        scored.append(
            SnippetScores(
                video=video.name,
                signals={name: signal.double().cpu().numpy() for name, signal in signals.items()},
                video_scores=video_scores.double().cpu().numpy(),
                seconds_per_snippet=video.seconds_per_snippet * length / len(rows),
                offset=video.offset,
            )
        )
        progress(number, len(videos))
    return scored
