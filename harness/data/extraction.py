"""How `wstal-bench data extract` makes features: what decides their numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wstal.spec import Spec

Pixels = Annotated[int, Field(strict=True, ge=32, le=4096)]


class Extraction(Spec):
    """What decides the numbers of extracted features, beside the clock and the streams of `dataset.toml`.

    Args:
        weights: SHA-256 of the weights of each stream.
        short_side: pixels of a frame's shorter side after bilinear resizing.
        crop: pixels of the square that is cut out of the middle.
        flow_bound: pixels of motion that become 1; RGB is scaled to [-1, 1].
        flow: method that computes optical flow.
    """

    weights: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    short_side: Pixels = 256
    crop: Pixels = 224
    flow_bound: float = Field(20.0, gt=0, le=1000)
    flow: str = "TV-L1"
