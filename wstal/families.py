"""Facts about known data sets that recipes depend on."""

from __future__ import annotations

import math

TRAINING_VIDEOS = {"thumos14": 200, "activitynet12": 4_819, "activitynet13": 10_024, "fineaction": 8_440}


def many_classes(dataset: str) -> bool:
    """Whether a family of data sets is ActivityNet's or FineAction, which have a hundred classes and more."""
    return dataset.startswith(("activitynet", "fineaction"))


def epochs_for(dataset: str, steps: int, batch_size: int) -> int:
    """Epochs that make about `steps` steps on a family of data sets, at least one: for papers that count steps.

    A family whose training videos are not known counts as ActivityNet 1.2 if `many_classes`, else as THUMOS14.
    """
    like = "activitynet12" if many_classes(dataset) else "thumos14"
    videos = TRAINING_VIDEOS.get(dataset, TRAINING_VIDEOS[like])
    return max(round(steps / math.ceil(videos / batch_size)), 1)
