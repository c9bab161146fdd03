"""A small data set in the folder layout: learnable, written in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CLASSES = ("Jump", "Run", "Throw")
SECONDS = 0.64


def write_tiny(folder: Path, train: int = 9, test: int = 5, width: int = 16, seed: int = 0) -> Path:
    """Features of one RGB stream and annotations; every video has two instances of one class."""
    rng = np.random.default_rng(seed)
    database = {}
    for subset, count in (("train", train), ("test", test)):
        (folder / "features" / subset / "rgb").mkdir(parents=True)
        for number in range(count):
            name, rows, label = f"{subset}_{number:03d}", int(rng.integers(40, 60)), number % len(CLASSES)
            features = rng.random((rows, width), dtype=np.float32)
            instances = []
            for start in (5, 25):
                end = start + int(rng.integers(6, 12))
                features[start:end, 3 * label : 3 * label + 3] += 4
                instances.append({"label": CLASSES[label], "segment": [start * SECONDS, end * SECONDS]})
            np.save(folder / "features" / subset / "rgb" / f"{name}.npy", features.astype(np.float16))
            database[name] = {"subset": subset, "duration": rows * SECONDS, "annotations": instances}
    (folder / "annotations.json").write_text(json.dumps({"version": "tiny", "taxonomy": [], "database": database}))
    (folder / "dataset.toml").write_text(
        'name = "tiny"\ntitle = "Tiny"\nextractor = "random numbers"\nfps = 25\n'
        'streams = [{ name = "rgb" }]\ntious = "0.1:0.1:0.7"\n'
    )
    return folder
