"""Queues of regions against `collections.deque`."""

from __future__ import annotations

from collections import deque

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wstal.memory import RegionQueues

ROWS, LENGTH = 3, 4
ENTRY = st.tuples(st.integers(0, ROWS - 1), st.integers(0, 9), st.booleans())
STEPS = st.lists(st.lists(ENTRY, min_size=1, max_size=12), max_size=4)


@settings(deadline=None)
@given(STEPS)
def test_queues_equal_deques(steps: list[list[tuple[int, int, bool]]]) -> None:
    queues = RegionQueues(ROWS, 1, LENGTH)
    expected: list[deque[tuple[float, int]]] = [deque(maxlen=LENGTH) for _ in range(ROWS)]
    number = 0.0
    for entries in steps:
        features = torch.arange(number + 1, number + 1 + len(entries)).unsqueeze(1)
        number += len(entries)
        row, owner, counted = (torch.tensor(column) for column in zip(*entries, strict=True))
        queues.update(features, row, owner, counted)
        for feature, (to, video, counts) in zip(features.flatten().tolist(), entries, strict=True):
            if counts:
                expected[to].append((feature, video))
    for place, queue in enumerate(expected):
        empty = LENGTH - len(queue)
        assert queues.owner[place].tolist() == [-1] * empty + [video for _, video in queue]
        assert queues.slots[place, :, 0].tolist() == [0.0] * empty + [feature for feature, _ in queue]


def test_what_is_stored_has_no_gradient_and_its_own_precision() -> None:
    queues = RegionQueues(1, 2, 2)
    features = torch.ones(1, 2, dtype=torch.bfloat16, requires_grad=True)
    queues.update(features, torch.tensor([0]), torch.tensor([3]), torch.tensor([True]))
    assert not queues.slots.requires_grad
    assert queues.slots.dtype == torch.float32
    assert queues.slots[0].tolist() == [[0, 0], [1, 1]]
