"""A small training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.acmnet import AcmNet, AcmNetOptions
from baselines.rmgcl_gksa import RmgclGksa, RmgclGksaOptions
from harness.random_streams import seed_torch
from harness.runs.training import train
from tests.helpers.faults import Killed
from wstal.method import Method, TrainSpec
from wstal.supervised import SupervisedMethod
from wstal.types import CountedVideo, SupervisedVideo

SPEC = TrainSpec(epochs=6, batch_size=4, temporal_length=12, test_length=12, learning_rate=1e-2, decay_every=4)


RUN = {"run": "x"}


def videos(count: int = 10, width: int = 16, classes: int = 3) -> list[CountedVideo]:
    """Videos of one class each, with counts: a weak method's batches have none of them."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        features = rng.random((rng.integers(5, 30), width), dtype=np.float32)
        features[:4, number % classes] += 3
        made.append(CountedVideo(f"v{number}", features, (number % classes,), 0.64, counts=(1 + number % 4,)))
    return made


def videos_for(method: Method) -> list[CountedVideo] | list[SupervisedVideo]:
    """The same videos as the method's supervision has them, with an instance in the middle of each."""
    given = videos()
    if not isinstance(method, SupervisedMethod):
        return given
    seconds = [video.length * video.seconds_per_snippet for video in given]
    return [
        SupervisedVideo(video, np.array(video.labels), np.array([0.21 * long]), np.array([0.67 * long]))
        for video, long in zip(given, seconds, strict=True)
    ]


def fresh(seed: int = 0, kind: str = "acmnet") -> Method:
    """A method with a seed's first weights: ACM-Net, or RMGCL+GKSA with codewords or k-means over 5 slots."""
    seed_torch(seed, "initialisation")
    base = AcmNetOptions(dropout=0.5)
    if kind == "acmnet":
        return AcmNet(base, 16, 3)
    update = "class_ema" if kind == "detr_layer" else "slot_momentum"
    memory, summary = {"length": 5, "update": update}, {"kind": kind, "count": 4}
    return RmgclGksa(RmgclGksaOptions(base=base, memory=memory, summary=summary), 16, 3)


def same(first: Method, second: Method) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def goes_on_to_the_same_bits(make: Callable[[int], Method], stop: int, folder: Path) -> Method:
    """Train twice, once killed in epoch `stop` + 1 and resumed with other first weights; the method, both times equal.

    Nothing is written beside the folders of the two runs.
    """
    undisturbed = make(0)
    expected = train(undisturbed, videos(), SPEC, 0, folder / "a", RUN)

    def kill(stage: str, done: int, total: int, note: str) -> None:
        if done == stop + 1:
            raise Killed

    with pytest.raises(Killed):
        train(make(0), videos(), SPEC, 0, folder / "b", RUN, on_progress=kill, checkpoint_seconds=0)
    resumed = make(99)
    assert train(resumed, videos(), SPEC, 0, folder / "b", RUN) == expected
    assert same(resumed, undisturbed)
    assert {file.relative_to(folder).parts[0] for file in folder.rglob("*") if file.is_file()} == {"a", "b"}
    return resumed
