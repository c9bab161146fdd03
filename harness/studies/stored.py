"""Base of what studies store: models that are checked field by field, and a JSON file a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.io.reading import read_json
from harness.io.text import problems
from wstal.errors import UserError

Percent = Annotated[float, Field(ge=0, le=100)]


class StoredModel(BaseModel):
    """Base of all stored numbers: immutable and finite, and an unknown field is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, serialize_by_alias=True
    )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON value that stands in the file."""
        return self.model_dump(mode="json")


class StudyFile(StoredModel):
    """Base of the one file of a study.

    Attributes:
        FILE: its name below `results`.
        REMEDY: how to make it again, for messages.
    """

    FILE: ClassVar[str]
    REMEDY: ClassVar[str]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file that `store` wrote.

        Raises:
            UserError: it is absent, not JSON, of another schema, or a field does not fit; names file and field.
        """
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise UserError(f"{path}: {problems(error)}. {cls.REMEDY}") from error

    def store(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            StoreError: it cannot be written.
        """
        atomic_write(path, pretty_json(self.to_json()))
