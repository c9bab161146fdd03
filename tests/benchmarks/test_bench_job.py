"""What stands around the steps: reading features, starting the command line, one whole run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.features import FeatureFiles, StoredFeatures, in_memory
from harness.random_streams import numpy_stream
from harness.registry import load_method
from harness.runs.process_environment import KEEP_MEMORY
from tests.benchmarks.batches import prepared
from tests.benchmarks.hardware import Machine
from tests.benchmarks.measure import aim, in_turns, note_memory
from wstal.method import Method, TrainSpec
from wstal.types import Video

CLASSES, STREAM = 20, 1024
ROWS = (200, 1200)  # of a video, fewest and most


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """48 videos of two float16 streams of 1,024 columns, as THUMOS14's are."""
    folder, rng = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    videos = []
    for number, rows in enumerate(rng.integers(*ROWS, 48)):
        paths = [folder / f"{stream}-{number}.npy" for stream in ("rgb", "flow")]
        for path in paths:
            np.save(path, rng.random((rows, STREAM), dtype=np.float32).astype(np.float16))
        source = StoredFeatures(f"video {number}", FeatureFiles(tuple(paths)))
        videos.append(Video(f"video {number}", source, (number % CLASSES,), 0.64))
    return videos


def loaded_plainly(method: Method, videos: Sequence[Video], train: TrainSpec) -> list[np.ndarray]:
    """Both files whole for each access, then the rows that are wanted."""
    rng = numpy_stream(0, "sampling", 0)
    batches = []
    for chosen in method.train_batches([video.labels for video in videos], train.batch_size, rng):
        rows = []
        for index in chosen:
            paths = videos[index].source.files.paths
            features = np.concatenate([np.load(path).astype(np.float32) for path in paths], axis=1)
            rows.append(features[method.train_indices(len(features), train.temporal_length, rng)])
        batches.append(np.stack(rows))
    return batches


@pytest.mark.benchmark(group="feature loading: an epoch of 48 videos to [16, 750, 2048]")
def test_feature_loading(benchmark: Any, machine: Machine, stored: list[Video]) -> None:
    """Held in memory, as a run does where there is room, against reading files that the system has in its cache."""
    cls = load_method("acmnet")
    recipe = cls.recipe("thumos14")
    method = cls(recipe.method, 2 * STREAM, CLASSES)
    kept = in_memory(stored)

    def load() -> list[np.ndarray]:
        return [batch.features.numpy() for batch in prepared(method, kept, recipe.train)]

    for batch, expected in zip(load(), loaded_plainly(method, stored, recipe.train), strict=True):
        np.testing.assert_array_equal(batch, expected)
    seconds = in_turns(benchmark, load, {"np_load": lambda: loaded_plainly(method, stored, recipe.train)})
    # float16 is read and float32 written
    values = len(stored) * recipe.train.temporal_length * 2 * STREAM
    note_memory(benchmark, machine, values * (2 + 4), seconds)
    if seconds:
        aim(benchmark, "np_load / ours", seconds["np_load"] / seconds["ours"], at_least=1)


def process(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=os.environ | KEEP_MEMORY)


@pytest.mark.slow
@pytest.mark.benchmark(group="start-up of the command line")
@pytest.mark.parametrize("command", [("--help",), ("ls", "methods")], ids=" ".join)
def test_start_up(benchmark: Any, command: tuple[str, ...]) -> None:
    """What needs no torch does not wait for its import."""
    others = {"python": lambda: process("-c", ""), "torch": lambda: process("-c", "import torch")}
    seconds = in_turns(benchmark, lambda: process("-m", "harness", *command), others)
    if command == ("--help",):
        aim(benchmark, "torch / ours", seconds["torch"] / seconds["ours"], at_least=2)


@pytest.mark.slow
@pytest.mark.benchmark(group="a run of the embedded data, 5 epochs")
@pytest.mark.parametrize("name", ["acmnet", "rmgcl-gksa"])
def test_whole_run(benchmark: Any, tmp_path: Path, name: str) -> None:
    """From the process's start to its record, data generated on the way."""
    stores = (tmp_path / str(number) for number in range(100))

    def run() -> None:
        short = ["train.epochs=5", *(["method.memory.start=0.2"] if name == "rmgcl-gksa" else [])]
        process(
            "-m", "harness", "run", "--method", name, "--store", str(next(stores)), "--threads", "1", "--set", *short
        )

    in_turns(benchmark, run, rounds=3, warm=0)
