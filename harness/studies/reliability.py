"""Collect and store the figures of the stress tests."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.io.atomic import atomic_write
from harness.io.encoding import pretty_json
from harness.io.reading import read_json
from harness.io.text import problems
from harness.runs.environment import PACKAGES, cpu_name, git_state
from wstal.errors import UserError

FILE = "reliability.json"


MODULE = "harness.pages.reliability"


Words = Annotated[str, Field(min_length=1)]


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Claim(_Stored):
    """One measured claim."""

    what: Words = Field(description="what was tried")
    figure: Words = Field(description="what came of it, with units")
    command: Words = Field(description="that measures it again")


class Reliability(_Stored):
    """The stress tests of one machine, commit and day."""

    version: Literal[1] = Field(alias="schema")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="UTC")
    package: Words = Field(description="version of wstal-bench")
    commit: str | None = Field(description="of the code; null outside a checkout")
    dirty: bool | None = Field(description="whether tracked files were changed; null outside a checkout")
    python: Words
    packages: dict[str, str]
    cpu: Words
    system: Words
    figures: Annotated[list[Claim], Field(min_length=1)]


def load_reliability(path: Path) -> Reliability:
    """The file that `store_reliability` wrote.

    Raises:
        UserError: it is absent, no JSON, of another schema, or a field does not fit; names file and field.
    """
    try:
        return Reliability.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {problems(error)}. Make it again with `python -m {MODULE}`.") from error


def store_reliability(lines: Path, path: Path) -> Reliability:
    """Write what stress tests reported, with what they were computed with; of one claim the last line counts.

    Raises:
        UserError: a line is no figure.
        StoreError: the file cannot be written.
    """
    code = git_state()
    measured = Reliability(
        schema=1,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        package=version("wstal-bench"),
        commit=code.get("commit"),
        dirty=code.get("dirty"),
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        cpu=cpu_name(),
        system=f"{platform.system()} {platform.machine()}",
        figures=_read_lines(lines),
    )
    atomic_write(path, pretty_json(measured.model_dump(mode="json", by_alias=True)))
    return measured


def _read_lines(path: Path) -> list[Claim]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {path}: {error}. Name the file that $WSTAL_RELIABILITY named.") from error
    figures: dict[str, Claim] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            figure = Claim.model_validate(json.loads(line))
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: {problems(error)}.") from error
        except ValueError as error:
            raise UserError(f"{path}, line {number} is no JSON ({error}).") from error
        figures[figure.what] = figure
    if not figures:
        raise UserError(f"{path} is empty: run the stress tests with WSTAL_RELIABILITY={path} set.")
    return list(figures.values())


def _main(words: list[str]) -> int:
    if len(words) != 2:
        print(f"usage: python -m {MODULE} LINES RESULTS{os.sep}{FILE}", file=sys.stderr)
        return UserError.exit_code
    try:
        measured = store_reliability(*map(Path, words))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"Done: {len(measured.figures)} figure(s) in {words[1]}", file=sys.stderr)
    return 0
