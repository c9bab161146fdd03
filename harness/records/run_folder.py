"""Read the folder of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from harness.charts.training import HISTORY, TOTAL
from harness.io.encoding import sha256_file
from harness.io.reading import read_json
from harness.records.store import RECORD, read_record
from wstal.errors import UserError


class _Stored(BaseModel):
    """What `History.to_json` gives."""

    model_config = ConfigDict(strict=True)
    steps_per_epoch: PositiveInt
    steps: dict[str, list[float | None]]
    epochs: dict[str, list[Any]]

    @model_validator(mode="after")
    def _whole_epochs(self) -> _Stored:
        count = len(self.steps.get(TOTAL, ()))
        if not count or count % self.steps_per_epoch:
            raise ValueError(f"{count} steps of {TOTAL!r} are not epochs of {self.steps_per_epoch}")
        return self


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """History and record of the finished run in a folder.

    Raises:
        UserError: no finished run, or its history is damaged.
    """
    if not (folder / RECORD).exists():
        raise UserError(f"{folder} holds no finished run ({RECORD} is not there). `wstal-bench ls runs` lists them.")
    record, path = read_record(folder / RECORD), folder / HISTORY
    history, remedy = read_json(path), "Restore it, or remove the run and do it again."
    if sha256_file(path) != record["artefacts"].get(HISTORY):
        raise UserError(f"{path} is not the file that was written (its SHA-256 differs). {remedy}")
    try:
        _Stored.model_validate(history)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(
            f"{path} is no history as this version writes it ({place}: {first['msg']}). {remedy}"
        ) from error
    return history, record
