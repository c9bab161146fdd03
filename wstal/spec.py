"""Base class of all options and settings, and types of their fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Base class of options and settings: immutable, without unknown fields or numbers that are not finite.

    Example:
        >>> class Options(Spec):
        ...     width: Count = 4
        >>> Options(width=8)
        Options(width=8)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ALL_ROWS = 1_000_000  # as `test_length`: no video is longer


# strict, because `true` is not a number; bounded, so that a typing error cannot exhaust memory
Count = Annotated[int, Field(strict=True, ge=1, le=ALL_ROWS)]
