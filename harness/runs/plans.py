"""Plans: a paper's table, or a user's own, as rows of options in small TOML files. One row, one place."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from harness.io.reading import read_toml
from harness.io.text import by_id, did_you_mean, problems
from harness.registry import RENAMED, current_name
from wstal.errors import MissingDataError, UserError
from wstal.spec import Spec

INTERPRETATIONS = "interpretations"
SUFFIX = ".toml"

# a plan written for an earlier version names methods by their earlier names
MethodName = Annotated[str, AfterValidator(lambda name: RENAMED.get(name, name))]


class Row(Spec):
    """One row of a table."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name within the plan")
    method: MethodName = Field("rmgcl-gksa", description="registered method")
    cells: tuple[str, ...] = Field(description="texts of the plan's columns")
    options: dict[str, Any] = Field({}, description="options of the recipe, by dotted name")
    printed: bool = Field(True, description="the paper's table has this row too")
    trained_as: MethodName | None = Field(
        None, description="method whose schedule the row is trained by, where its own would compare schedules"
    )


class Claim(Spec):
    """Claim of the paper about two rows."""

    text: str
    better: str = Field(description="id of the row that is to be better")
    worse: str


class Plan(Spec):
    """A table or figure of ablations."""

    title: str
    source: str = Field(description="where the published values are printed")
    seeds: tuple[int, ...] = Field(
        min_length=1, description="seeds of each row, unless the data set's schedule has its own"
    )
    columns: tuple[str, ...] = Field(description="headings of the rows' cells")
    mAP: tuple[str, ...] = Field(description="tIoUs shown, besides the mean over the widest range")
    rows: tuple[Row, ...] = Field(min_length=1)
    claims: tuple[Claim, ...] = ()
    reference: str | None = Field(None, description="row that all others are compared with, in place of claims")

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        ids = [row.id for row in self.rows]
        if len(set(ids)) < len(ids):
            raise ValueError(f"two rows have one id: {', '.join(ids)}")
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"row {row.id}: {len(row.cells)} cells for {len(self.columns)} columns")
        named = [name for claim in self.claims for name in (claim.better, claim.worse)]
        if self.reference is not None:
            named.append(self.reference)
        if unknown := set(named) - set(ids):
            raise ValueError(f"no row {', '.join(sorted(unknown))}")
        return self

    def row(self, name: str) -> Row:
        """Return the row with this id.

        Raises:
            UserError: no such row.
        """
        return by_id(self.rows, RENAMED.get(name, name), self.title)


@cache
def plans() -> dict[str, Plan]:
    """Return the shipped plans by name, in the paper's order."""
    folder = files("harness") / "shipped" / "plans"
    found = {
        file.name.removesuffix(SUFFIX): Plan.model_validate(tomllib.loads(file.read_text()))
        for file in folder.iterdir()
        if file.name.endswith(SUFFIX)
    }
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("table"), item[0])))


def paper_tables() -> list[str]:
    """Return the names of the plans that reproduce a table or figure of the paper."""
    return [name for name in plans() if name.startswith(("table_", "figure_"))]


def find_plan(name: str) -> Plan:
    """Return a shipped plan by its name or a table's number: `table_IV`, `IV`, `figure_5`, `interpretations`.

    Raises:
        UserError: no such plan.
    """
    known, name = plans(), current_name("plan", name)
    for candidate in (name, f"table_{name}", f"figure_{name}"):
        if candidate in known:
            return known[candidate]
    raise UserError(f"Unknown table {name!r}{did_you_mean(name, known)} Tables: {', '.join(known)}.")


def open_plan(name: str) -> Plan:
    """Return the user's plan where `name` is a path that ends in `.toml`, else the shipped one (`find_plan`).

    Raises:
        UserError: no such plan, or its file cannot be read, is not TOML, lacks a key, or has one that is unknown or
            does not fit.
    """
    if not name.endswith(SUFFIX):
        return find_plan(name)
    try:
        return Plan.model_validate(read_toml(Path(name)))
    except MissingDataError as error:  # a slip of usage, no missing data
        raise UserError(f"There is no plan {name}. Check the path.") from error
    except ValidationError as error:
        raise UserError(f"{name}: {problems(error)}. The plans in harness/shipped/plans are examples.") from error


def find_row(reference: str) -> Row:
    """Return a row by `TABLE/ROW`, for example `IV/full`, or by `PLAN.toml/ROW` from a plan of the user's own.

    Raises:
        UserError: no such table or row, or a bad file.
    """
    table, slash, row = reference.rpartition("/")
    if not slash:
        raise UserError(f"--row wants TABLE/ROW (for example IV/full), got {reference!r}.")
    return open_plan(table).row(row)
