"""Facts about known families of data sets that recipes depend on."""

from __future__ import annotations

import math

TRAINING_VIDEOS = {"thumos14": 200, "activitynet12": 4_819, "activitynet13": 10_024, "fineaction": 8_440}


def many_classes(dataset: str) -> bool:
    """Return whether a family of data sets has a hundred classes or more (ActivityNet, FineAction).

    Example:
        >>> many_classes("activitynet13"), many_classes("thumos14")
        (True, False)
    """
    return dataset.startswith(("activitynet", "fineaction"))


def epochs_for(dataset: str, steps: int, batch_size: int) -> int:
    """Return the number of epochs, at least 1, that amounts to about `steps` steps. For papers that count steps.

    A family whose number of training videos is unknown counts as ActivityNet 1.2 if `many_classes`, otherwise as
    THUMOS14.

    Args:
        dataset: name of the family (`thumos14`, `activitynet13`, ...).
        steps: optimiser steps of the paper.
        batch_size: videos per batch.

    Example:
        >>> epochs_for("thumos14", steps=1500, batch_size=16)
        115
    """
    like = "activitynet12" if many_classes(dataset) else "thumos14"
    videos = TRAINING_VIDEOS.get(dataset, TRAINING_VIDEOS[like])
    return max(round(steps / math.ceil(videos / batch_size)), 1)
