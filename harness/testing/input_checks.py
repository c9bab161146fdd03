"""Checks of what a method is given: types without times, no file, and batches and rows that are valid."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any
from unittest import mock

import numpy as np
import torch

from harness.data import annotations as reader
from harness.runs.failed_step import losses_of
from harness.testing.examples import CLASSES, WIDTH, example, variants
from wstal.method import Method
from wstal.supervised import SupervisedMethod
from wstal.types import Batch, CountedBatch, CountedVideo, SupervisedBatch, SupervisedVideo, Video


def training_reads_no_file(cls: type[Method]) -> None:
    """Check that training gets all it knows from batches and videos, whose types have no field for times."""

    def refuse(*given: Any, **options: Any) -> None:
        raise AssertionError(f"Training opens {given[0]!r}: a method sees its batches alone.")

    for kind in (Batch, Video, CountedBatch, CountedVideo):
        known = {field.name for field in fields(kind)}
        assert not {"start", "end", "segments", "duration"} & known, f"{kind.__name__} has a field for times."
        assert ("counts" in known) == (kind in (CountedBatch, CountedVideo)), f"{kind.__name__} has a field for counts."
        assert not issubclass(kind, SupervisedBatch | SupervisedVideo), f"{kind.__name__} has times."
    weak = not issubclass(cls, SupervisedMethod)
    assert weak == (cls.supervision != "full"), f"{cls.__name__}.supervision is {cls.supervision!r}."
    if weak:
        timed = SupervisedBatch(torch.zeros(1, 2, WIDTH), torch.zeros(1, CLASSES), ("v",), {})
        (method, *_) = variants(cls)
        try:
            losses_of(method, timed)
        except TypeError:
            pass
        else:
            raise AssertionError(f"{cls.__name__} was handed a batch with times.")
    assert reader.read_annotations not in vars(sys.modules[cls.__module__]).values(), (
        f"{cls.__module__} imports the reader of temporal annotations."
    )
    variants(cls)  # what libraries load at their first use
    with mock.patch("builtins.open", refuse), mock.patch("io.open", refuse):
        for method in variants(cls):
            method.end_training()
            method.eval().score(example(1).features[0])


def batches_show_every_video(cls: type[Method]) -> None:
    """Check that batches and rows are valid indices, drawn only by the given generator."""
    (method, *_) = variants(cls)
    labels = [(video % CLASSES,) for video in range(13)]
    drawn, again = (method.train_batches(labels, 4, np.random.default_rng(0)) for _ in range(2))
    assert drawn, "`train_batches` gives no batch."
    for batch, other in zip(drawn, again, strict=True):
        assert len(batch) > 0, "`train_batches` gives an empty batch."
        assert set(batch.tolist()) <= set(range(13)), f"`train_batches` gives {batch.tolist()} of 13 videos."
        assert np.array_equal(batch, other), "`train_batches` draws from elsewhere than its generator."
    for length in (1, 5, 40):
        trained, rows = method.train_indices(length, 12, np.random.default_rng(0)), method.test_indices(length, 12)
        for name, sample in {"train_indices": trained, "test_indices": rows}.items():
            assert len(sample) > 0, f"`{name}` gives no row of a video of {length}."
            assert 0 <= sample.min() <= sample.max() < length, f"`{name}` gives {sample.tolist()} of {length} rows."
        assert (np.diff(rows) >= 0).all(), "`test_indices` are not in the order of time."
        step = length / len(rows)
        assert (np.abs(rows - step * np.arange(len(rows))) <= max(step, 1)).all(), (
            f"`test_indices` gives {rows.tolist()} of {length} rows: a detection's times need rows that are evenly "
            "spaced over the whole video."
        )
