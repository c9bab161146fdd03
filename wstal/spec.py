"""Base class of all options and settings, and types of their fields."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Spec(BaseModel):
    """Base class of options and settings: immutable, without unknown fields or numbers that are not finite.

    Example:
        >>> class Options(Spec):
        ...     width: Count = 4
        >>> Options(width=8)
        Options(width=8)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def title_note(self) -> str:
        """What follows the method's title in every table, because no row may leave it unsaid. By default nothing."""
        return ""


ALL_ROWS = 1_000_000  # as `test_length`: no video is longer


# strict, because `true` is not a number; bounded, so that a typing error cannot exhaust memory
Count = Annotated[int, Field(strict=True, ge=1, le=ALL_ROWS)]

# number of epochs, which a schedule that changes `train.epochs` changes alike
EPOCHS = "epochs"
EpochCount = Annotated[Count, EPOCHS]


class HierarchyOptions(Spec):
    """Options of a method that groups the classes to coarse ones.

    Example:
        >>> HierarchyOptions(coarse_classes=(0, 0, 1)).coarse_count
        2
    """

    coarse_classes: tuple[Annotated[int, Field(strict=True, ge=0, le=ALL_ROWS)], ...] | None = Field(
        None, description="coarse class of each class, stated by the data set; unset or (): there are none"
    )

    @model_validator(mode="after")
    def _numbered_without_a_gap(self) -> Self:
        if (used := set(self.coarse_classes or ())) != set(range(self.coarse_count)):
            raise ValueError(f"Expected `coarse_classes` to be numbered from 0 without a gap, got {sorted(used)}")
        return self

    @property
    def coarse_count(self) -> int:
        """Number of coarse classes."""
        return max(self.coarse_classes) + 1 if self.coarse_classes else 0
