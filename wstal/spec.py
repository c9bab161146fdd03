"""Base of all option models, and types of options."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Base of every typed specification: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ALL_ROWS = 1_000_000  # as `test_length`: no video is longer


# strict: `true` is no number; bounded: a slip of the keyboard shall not exhaust memory
Count = Annotated[int, Field(strict=True, ge=1, le=ALL_ROWS)]
