"""Figures of the stress tests, with the machine and the code that they were measured on.

`python -m harness.studies.reliability LINES results/reliability.json` makes the file from the lines that the tests
appended to $WSTAL_RELIABILITY.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError

from harness.io.text import problems
from harness.runs.environment import git_state, machine
from harness.studies.stored import StoredModel, StudyFile
from wstal.errors import UserError

MODULE = "harness.studies.reliability"

Words = Annotated[str, Field(min_length=1)]


class ReliabilityFigure(StoredModel):
    """Result of one stress test."""

    model_config = ConfigDict(strict=True)

    what: Words = Field(description="the stress that was applied")
    figure: Words = Field(description="the result, with units")
    command: Words = Field(description="that measures it again")


class ReliabilityFile(StudyFile):
    """Stress tests of one machine, commit and day."""

    FILE: ClassVar[str] = "reliability.json"
    REMEDY: ClassVar[str] = f"Make it again with `python -m {MODULE}`."

    model_config = ConfigDict(strict=True)

    version: Literal[1] = Field(alias="schema")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="UTC")
    package: Words = Field(description="version of wstal-bench")
    commit: str | None = Field(description="of the code; null outside a checkout")
    dirty: bool | None = Field(description="whether tracked files were changed; null outside a checkout")
    python: Words
    packages: dict[str, str]
    cpu: Words
    system: Words
    figures: Annotated[list[ReliabilityFigure], Field(min_length=1)]


def store_reliability(lines: Path, path: Path) -> ReliabilityFile:
    """Store what stress tests reported, with the machine and the code; of one claim the last line counts.

    Args:
        lines: file of the reported figures, a JSON object a line.
        path: the file to write.

    Raises:
        UserError: a line is no figure.
        StoreError: the file cannot be written.
    """
    measured = ReliabilityFile(
        schema=1,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        package=version("wstal-bench"),
        dirty=git_state().get("dirty"),
        figures=_read_lines(lines),
        **machine(),
    )
    measured.store(path)
    return measured


def _read_lines(path: Path) -> list[ReliabilityFigure]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {path}: {error}. Name the file that $WSTAL_RELIABILITY named.") from error
    figures: dict[str, ReliabilityFigure] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            figure = ReliabilityFigure.model_validate(json.loads(line))
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: {problems(error)}.") from error
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not JSON ({error}).") from error
        figures[figure.what] = figure
    if not figures:
        raise UserError(f"{path} is empty: run the stress tests with WSTAL_RELIABILITY={path} set.")
    return list(figures.values())


def _main(words: list[str]) -> int:
    if len(words) != 2:
        print(f"usage: python -m {MODULE} LINES RESULTS{os.sep}{ReliabilityFile.FILE}", file=sys.stderr)
        return UserError.exit_code
    try:
        measured = store_reliability(*map(Path, words))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"Done: {len(measured.figures)} figure(s) in {words[1]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
