"""Folder of a finished run: its record, and its other files with their digests checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError, model_validator

from harness.charts.training import TOTAL, ChartRun
from harness.io.encoding import sha256_file
from harness.io.reading import read_json
from harness.io.text import problems
from harness.records.files import HISTORY, RECORD
from harness.records.reading import read_record
from harness.records.schema import Record
from wstal.errors import StoreError, UserError

REMEDY = "Restore it, or remove the run and do it again."


class _History(BaseModel):
    """Losses by step and diagnostics by epoch, as a run stores them."""

    model_config = ConfigDict(strict=True)
    steps_per_epoch: PositiveInt
    steps: dict[str, list[float | None]]
    epochs: dict[str, list[Any]]

    @model_validator(mode="after")
    def _whole_epochs(self) -> _History:
        count = len(self.steps.get(TOTAL, ()))
        if not count or count % self.steps_per_epoch:
            raise ValueError(f"{count} steps of {TOTAL!r} are not epochs of {self.steps_per_epoch}")
        return self


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Args:
        folder: of its files.
        record: its record.
    """

    folder: Path
    record: Record

    @classmethod
    def open(cls, folder: Path) -> FinishedRun:
        """Read the record of the finished run in a folder.

        Raises:
            UserError: the folder holds no finished run, or its record is damaged.
        """
        path = folder / RECORD
        if not os.path.lexists(path):
            raise UserError(
                f"{folder} holds no finished run ({RECORD} is not there). `wstal-bench ls runs` lists them."
            )
        return cls(folder, read_record(path))

    def artefact(self, name: str) -> Path:
        """Return the path of one of the run's files, which is as it was written.

        Raises:
            StoreError: the file is absent or its digest is not the record's.
        """
        path = self.folder / name
        if not os.path.isfile(path) or sha256_file(path) != self.record.artefacts.get(name):
            raise StoreError(f"{path} is absent, or not the file that was written (its SHA-256 differs). {REMEDY}")
        return path

    def history(self) -> dict[str, Any]:
        """Read the run's losses and diagnostics.

        Raises:
            UserError: the file is absent or damaged, or no history.
        """
        path = self.folder / HISTORY
        history = read_json(path)
        try:
            self.artefact(HISTORY)
            _History.model_validate(history)
        except StoreError as error:  # damaged input of a figure, and no failure to store something
            raise UserError(str(error)) from error
        except ValidationError as error:
            raise UserError(f"{path} is no history as this version writes it ({problems(error)}). {REMEDY}") from error
        return dict(history)


def chart_run(record: Record) -> ChartRun:
    """Return what the figure of a run's training shows of its record."""
    synthetic = "SYNTHETIC DATA, no real video: " if record.synthetic else ""
    heading = f"{synthetic}{record.title} on {record.data.title}, seed {record.seed}"
    slots = record.recipe.option("method.memory.length")
    return ChartRun(record.id, heading, record.classes, slots if isinstance(slots, int) else 0)
