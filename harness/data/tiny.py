"""Tiny data set in the folder layout: learned in seconds, for checks and tests that need real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("Jump", "Run", "Throw")
SECONDS = 0.64


def write_tiny(folder: Path, train: int = 24, test: int = 8, width: int = 128, seed: int = 0) -> Path:
    """Write features of one RGB stream and annotations: noise, in which each class lifts three columns of its own.

    Every video has two instances of one class.

    Args:
        folder: of the data set, empty or absent.
        train: training videos.
        test: test videos.
        width: feature columns, 9 at least.
        seed: of the noise and the lengths.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    database: dict[str, Any] = {}
    for subset, count in (("train", train), ("test", test)):
        features = folder / "features" / subset / "rgb"
        features.mkdir(parents=True)
        for number in range(count):
            label, rows = number % len(CLASSES), int(rng.integers(60, 100))
            values = rng.random((rows, width), dtype=np.float32)
            instances = []
            for start in (5, 30):
                end = start + int(rng.integers(8, 20))
                values[start:end, 3 * label : 3 * label + 3] += 4
                instances.append({"label": CLASSES[label], "segment": [start * SECONDS, end * SECONDS]})
            video = f"{subset}_{number:03d}"
            np.save(features / f"{video}.npy", values)
            database[video] = {"subset": subset, "duration": rows * SECONDS, "annotations": instances}
    (folder / "annotations.json").write_text(json.dumps({"version": "tiny", "taxonomy": [], "database": database}))
    (folder / "dataset.toml").write_text(
        'name = "tiny"\ntitle = "Tiny"\nextractor = "random numbers"\nfps = 25\n'
        'streams = [{ name = "rgb" }]\ntious = "0.1:0.1:0.7"\n'
    )
    return folder
