"""Batches as the trainer prepares them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.random_streams import numpy_stream
from harness.runs.examples import examples_of
from harness.runs.training import batches
from wstal.method import Method, TrainSpec
from wstal.types import Batch, Video


def prepared(method: Method, videos: Sequence[Video], train: TrainSpec) -> Iterator[Batch]:
    """An epoch of them."""
    rng = numpy_stream(0, "sampling", 0)
    chosen = method.train_batches([video.labels for video in videos], train.batch_size, rng)
    with ThreadPoolExecutor(max_workers=1) as worker:
        for batch, _ in batches(examples_of(method, videos, train, stage=0), chosen, rng, worker):
            assert isinstance(batch, Batch)
            yield batch
