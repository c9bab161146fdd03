"""Random streams by purpose: drawing more from one never changes another."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(seed: int, purpose: str, *parts: int) -> int:
    """Return a 63-bit seed for one purpose and position of a run.

    Args:
        seed: of the run.
        purpose: `initialisation`, `sampling`, `dropout` or another name.
        *parts: position, such as the epoch and step.
    """
    text = "/".join([str(seed), purpose, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, purpose: str, *parts: int) -> np.random.Generator:
    """Return a NumPy generator for one purpose and position (arguments of `derived_seed`).

    Args:
        seed: of the run.
        purpose: name of the stream.
        *parts: position.
    """
    return np.random.default_rng(derived_seed(seed, purpose, *parts))


def seed_torch(seed: int, purpose: str, *parts: int) -> None:
    """Seed torch's generators of every device for one purpose and position.

    Args:
        seed: of the run.
        purpose: name of the stream.
        *parts: position.
    """
    torch.manual_seed(derived_seed(seed, purpose, *parts))
