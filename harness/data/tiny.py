"""Tiny data set in the folder layout: learned in seconds, for checks and tests that need real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

CLASSES = ("Jump", "Run", "Throw")
SECONDS = 0.64


def write_tiny(
    folder: Path,
    train: int = 24,
    test: int = 8,
    width: int = 128,
    *,
    rows: tuple[int, int] = (60, 100),
    starts: tuple[int, ...] = (5, 30),
    lengths: tuple[int, int] = (8, 20),
    dtype: DTypeLike = np.float32,
) -> Path:
    """Write features of one RGB stream and annotations: noise, in which each class lifts three columns of its own.

    Args:
        folder: of the data set, empty or absent.
        train: training videos; each has instances of one class.
        test: test videos.
        width: feature columns, 9 at least.
        rows: fewest snippets of a video, and one more than the most.
        starts: first snippets of the instances.
        lengths: fewest snippets of an instance, and one more than the most.
        dtype: of the stored features.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(0)
    database: dict[str, Any] = {}
    for subset, count in (("train", train), ("test", test)):
        features = folder / "features" / subset / "rgb"
        features.mkdir(parents=True)
        for number in range(count):
            video, label, length = f"{subset}_{number:03d}", number % len(CLASSES), int(rng.integers(*rows))
            values = rng.random((length, width), dtype=np.float32)
            instances = []
            for start in starts:
                end = start + int(rng.integers(*lengths))
                values[start:end, 3 * label : 3 * label + 3] += 4
                instances.append({"label": CLASSES[label], "segment": [start * SECONDS, end * SECONDS]})
            np.save(features / f"{video}.npy", values.astype(dtype))
            database[video] = {"subset": subset, "duration": length * SECONDS, "annotations": instances}
    (folder / "annotations.json").write_text(json.dumps({"version": "tiny", "taxonomy": [], "database": database}))
    (folder / "dataset.toml").write_text(
        'name = "tiny"\ntitle = "Tiny"\nextractor = "random numbers"\nfps = 25\n'
        'streams = [{ name = "rgb" }]\ntious = "0.1:0.1:0.7"\n'
    )
    return folder
