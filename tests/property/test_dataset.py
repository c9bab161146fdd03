"""What a data set is does not depend on the order of keys in its JSON files or of files in its folders."""

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.descriptor import list_digest
from harness.data.opening import open_dataset

IDS = st.text("abcdefg_-0123456789ABC", min_size=1, max_size=8).filter(lambda name: name not in ("-", "_"))
LABELS = st.sampled_from(["run", "jump", "Zumba", "éclair", "a b"])
VIDEOS = st.dictionaries(
    IDS,
    st.tuples(st.sampled_from(["training", "test"]), st.lists(LABELS, min_size=1, max_size=3)),
    min_size=2,
    max_size=6,
)


def write(folder: Path, videos: dict[str, tuple[str, list[str]]], order: random.Random) -> Path:
    names = list(videos)
    order.shuffle(names)
    database: dict[str, Any] = {}
    for name in names:
        subset, labels = videos[name]
        instances = [{"label": label, "segment": [0.1 * i, 1.0]} for i, label in enumerate(labels)]
        entry = [("subset", subset), ("duration", 3.2), ("annotations", instances)]
        order.shuffle(entry)
        database[name] = dict(entry)
        path = folder / "features" / ("train" if subset == "training" else "test") / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((5, 2), len(name), np.float32))
    official = {name: {"labels": videos[name][1]} for name in names}
    (folder / "annotations.json").write_text(json.dumps({"database": database}))
    (folder / "video_labels.json").write_text(json.dumps(official))
    return folder


def observed(folder: Path, order: random.Random) -> list[Any]:
    """All that a run takes from a data set, with files listed in a random order."""
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path: Path) -> None:
            self.entries = list(scandir(path))
            order.shuffle(self.entries)

        def __enter__(self) -> list[Any]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            pass

    with patch.object(os, "scandir", Shuffled):
        data = open_dataset(folder)
    result: list[Any] = [data.classes, data.digests()]
    for subset in ("train", "test"):
        if data.subsets[subset].available:
            truth = data.ground_truth(subset)
            result.append([(v.name, v.labels, v.features.tobytes()) for v in data.videos(subset)])
            result += [data.video_list(subset), truth.videos, truth.video.tolist(), truth.label.tolist()]
            result.append(truth.start.tolist())
    return result


@settings(max_examples=25)
@given(videos=VIDEOS, seed=st.integers(0, 1000))
def test_order_of_keys_and_files_changes_nothing(videos: dict[str, tuple[str, list[str]]], seed: int) -> None:
    order = random.Random(seed)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first = observed(write(Path(one), videos, order), order)
        assert first == observed(write(Path(two), videos, order), order)
        assert first[0] == tuple(sorted(first[0]))


@given(st.lists(IDS, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_list_digest_is_of_the_set(names: list[str], order: random.Random) -> None:
    shuffled = list(names)
    order.shuffle(shuffled)
    assert list_digest(shuffled) == list_digest(names)
    assert not names or list_digest(names[1:]) != list_digest(names)
