"""Detections of a trained run in other videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from harness.io.console import OnProgress
from harness.runs.execute import restore
from harness.runs.scoring import score_videos
from wstal.localize import localize
from wstal.types import Detections, Video


def predict(
    folder: Path, videos: Sequence[Video], device: torch.device, on_progress: OnProgress = lambda *_: None
) -> Detections:
    """Find actions in videos with the weights and the localizer of a finished run.

    Args:
        folder: of the run.
        videos: features of the width that it was trained on; their labels are not used.
        device: where it scores.
        on_progress: called after each video.

    Raises:
        UserError: the folder holds no finished run, or the features are of another width.
        StoreError: its weights are damaged.
    """
    method, recipe, record = restore(folder, videos[0].features.shape[1], device)
    # another number of threads rounds sums differently: the run's own number repeats its detections exactly
    torch.set_num_threads(record.environment.threads)
    return localize(score_videos(method, videos, recipe.train, on_progress), recipe.localizer, tuple(record.classes))
