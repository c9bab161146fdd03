"""Recorded runs of released supervised methods, and a small data set for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wstal.types import SupervisedVideo, Video

Recording = dict[str, np.ndarray]


def recording(shared: Path, name: str) -> Recording:
    """Tensors recorded from released code."""
    return dict(np.load(shared / "fixtures" / f"{name}.npz"))


def weights(tensors: Recording, names: dict[str, str], prefix: str = "sd/") -> dict[str, Tensor]:
    """The recorded weights under our names; `names` maps the recorded module to ours."""
    return {
        f"{ours}.{kind}": torch.from_numpy(tensors[f"{prefix}{recorded}.{kind}"])
        for recorded, ours in names.items()
        for kind in ("weight", "bias")
    }


def check_gradients(module: nn.Module, tensors: Recording, names: dict[str, str], rtol: float = 1e-5) -> None:
    """Norm and sum of each parameter's gradient are the recorded ones."""
    parameters = dict(module.named_parameters())
    for recorded, ours in names.items():
        for kind in ("weight", "bias"):
            norm, total = tensors[f"grad/{recorded}.{kind}"]
            gradient = parameters[f"{ours}.{kind}"].grad.double()
            assert gradient.norm().item() == pytest.approx(norm, rel=rtol), f"{ours}.{kind}"
            # a sum of numbers that cancel is as exact as their norm
            assert gradient.sum().item() == pytest.approx(total, rel=rtol, abs=rtol * norm), f"{ours}.{kind}"


def rows_of(tensors: Recording, video: int, rows: int) -> Tensor:
    """Instances of a recorded video in rows: seconds over the duration that its features have, cut at the video."""
    seconds, frames, feature_frames = tensors[f"gt/{video}/duration_s_frames_featureframes"]
    share = tensors[f"gt/{video}/segments_seconds"] / (feature_frames / frames * seconds)
    return torch.from_numpy(share.clip(0, 1) * rows)


def videos(count: int = 4, rows: int = 60, width: int = 8, classes: int = 3) -> list[SupervisedVideo]:
    """Videos of a row a second with two instances of one class, whose features show class and action."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        label = number % classes
        features = rng.normal(scale=0.1, size=(rows, width)).astype(np.float32)
        starts = np.array([5, 30]) + rng.integers(0, 8, 2)
        ends = starts + rng.integers(8, 16, 2)
        for start, end in zip(starts, ends, strict=True):
            features[start:end, 3] += 1
            features[start:end, label] += 1
        video = Video(f"v{number}", features, (label,), 1.0)
        made.append(SupervisedVideo(video, np.array([label] * 2), starts.astype(float), ends.astype(float)))
    return made
