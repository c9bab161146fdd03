"""Training steps at the paper's sizes: THUMOS14's [16, 750, 2048] and ActivityNet's [64, 75, 2048]."""

from __future__ import annotations

from pathlib import Path

import torch

from baselines.rmgcl_gksa import RmgclGksa
from harness.registry import load_method
from harness.runs.training import train
from harness.studies.cost import Setting, as_batch, build
from wstal.method import Method
from wstal.types import Batch, Video

VIDEOS, TIME, WIDTH, CLASSES = 16, 750, 2048, 20
FULL_SIZE = Setting("thumos14", TIME, CLASSES)
MANY_CLASSES = Setting("activitynet13", 75, 200)
MANY_CLASSES_VIDEOS = 64


def full_size_step(
    name: str, device: str = "cpu", videos: int = VIDEOS, setting: Setting = FULL_SIZE
) -> tuple[Method, Batch]:
    method, _ = build(load_method(name), "train", setting, WIDTH)
    # two videos of a class in a row, for losses of pairs
    labels = torch.eye(setting.classes)[torch.arange(videos) // 2 % setting.classes]
    features = torch.rand(videos, setting.length, WIDTH)
    return method.to(device), as_batch(method, features.to(device), labels.to(device))


def full_size_training(folder: Path) -> None:
    """Two steps and a checkpoint of RmgclGksa with a full bank, beside THUMOS14's features in memory, as float16."""
    method, _ = full_size_step("rmgcl-gksa", videos=1)
    assert isinstance(method, RmgclGksa)
    options = method.spec.model_copy(update={"memory": method.spec.memory.model_copy(update={"start": 0.0})})
    trained = RmgclGksa(options, WIDTH, CLASSES)
    trained.load_state_dict(method.state_dict())
    del method
    held = [
        Video(f"video {number}", torch.rand(TIME, WIDTH).half().numpy(), (number % CLASSES,), 0.64)
        for number in range(200)
    ]
    spec = RmgclGksa.recipe("thumos14").train.model_copy(update={"epochs": 1})
    train(trained, held[: 2 * VIDEOS], spec, 0, folder, {"run": "a benchmark"})
    assert len(held) == 200
