"""Random streams by purpose: changing how much one draws never moves another."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derived_seed(seed: int, purpose: str, *parts: int) -> int:
    """A 63-bit seed for one purpose (`initialisation`, `sampling`, `dropout`) and position of a run."""
    text = "/".join([str(seed), purpose, *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, purpose: str, *parts: int) -> np.random.Generator:
    """A NumPy generator of its own for a purpose and position."""
    return np.random.default_rng(derived_seed(seed, purpose, *parts))


def seed_torch(seed: int, purpose: str, *parts: int) -> None:
    """Set torch's generators, of every device, for what follows."""
    torch.manual_seed(derived_seed(seed, purpose, *parts))
