"""Tables and claims of the paper, as printed, from the TOML files under `harness/shipped/published`.

A cell is the printed text: `24.0`, `-` for a dash, the empty string for a blank.
mAPs are in percent. Merged label cells (the supervision of a group) stand in each of their rows.
"""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from harness.io.text import by_id, did_you_mean
from wstal.errors import UserError
from wstal.evaluation.protocols import PROTOCOLS
from wstal.evaluation.tiou import parse_tious, tiou_key
from wstal.spec import Spec

NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
NUMBER = re.compile(r"\d+(\.\d+)?")
DASH = "-"
UNSTATED: Literal["unstated"] = "unstated"
Selection = Literal["unstated", "last", "best_on_test"]
METHOD = "Method"
PARAMS, FLOPS, SIZE = COSTS = ("Params(M)", "FLOPs(G)", "Model Size(MB)")
# `SSN [27] (ICCV'17)`, `UntrimmedNet [28], (CVPR'17)`, `Latent codewords (ours)`
PRINTED_METHOD = re.compile(r"(?P<name>.*?)( \[(?P<citation>\d+)\])?,?( \((?P<venue>[A-Z]+'\d\d)\))?")


class Column(Spec):
    """Column of values."""

    name: str = Field(description="its heading; a tIoU such as 0.5, the name of an average, or a cost with its unit")
    mean_of: str | None = Field(None, description="the tIoUs of an average, as FIRST:STEP:LAST")

    @field_validator("mean_of")
    @classmethod
    def _a_range(cls, text: str | None) -> str | None:
        if text is not None:
            parse_tious(text)
        return text

    @property
    def tiou(self) -> Decimal | None:
        """Threshold of a column of mAPs at one tIoU."""
        return Decimal(self.name) if NUMBER.fullmatch(self.name) else None

    @property
    def tious(self) -> tuple[str, ...]:
        """Names of the columns at the thresholds that an average is of; empty for other columns."""
        return tuple(map(tiou_key, parse_tious(self.mean_of))) if self.mean_of else ()

    @property
    def quantity(self) -> str:
        """Name of the measured quantity in all tables: the tIoU, the range of an average, or the heading."""
        return self.mean_of or self.name


class PublishedRow(Spec):
    """Row of a table."""

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name within the table, and of the plan's row")
    method: str = Field("", description="registry name of the method, whether or not it is implemented; empty: none")
    same: str = Field("", description="rows of one data set with one value here are one configuration; empty: the id")
    labels: dict[str, str] = Field(description="texts before the values, by heading")
    cells: dict[str, str] = Field(description="the values as printed, by column")
    bold: tuple[str, ...] = Field((), description="headings of the cells in bold")
    features: str = Field("", description="of the method, where the text says so and no column does")
    protocol: str = Field(UNSTATED, description="of the method's own published number; `other`: none of the harness's")
    selection: Selection = Field(UNSTATED, description="which checkpoint was kept")
    test_looks: int | None = Field(None, ge=1, description="how many checkpoints were tested")
    source: str = Field("", description="where protocol and selection are known from")

    @model_validator(mode="after")
    def _consistent(self) -> PublishedRow:
        for column, text in self.cells.items():
            if text not in ("", DASH) and not NUMBER.fullmatch(text):
                raise ValueError(f"row {self.id}: {text!r} under {column} is neither a number, {DASH!r} nor blank")
        if unknown := set(self.bold) - self.labels.keys() - self.cells.keys():
            raise ValueError(f"row {self.id}: no column {', '.join(sorted(unknown))} to be bold")
        if self.protocol not in (UNSTATED, "other", *PROTOCOLS):
            raise ValueError(f"row {self.id}: unknown protocol {self.protocol!r}")
        if not self.source and (self.protocol, self.selection, self.test_looks) != (UNSTATED, UNSTATED, None):
            raise ValueError(f"row {self.id}: protocol or selection without a source")
        return self

    @property
    def name(self) -> str:
        """Name of the method as printed, without citation and venue; empty in tables without one."""
        return self._method_part("name") or ""

    @property
    def label(self) -> str:
        """Name that the row is shown by: its method as printed, else its id."""
        return self.labels.get(METHOD) or self.id

    @property
    def citation(self) -> int | None:
        """Number of the reference that the row cites."""
        number = self._method_part("citation")
        return int(number) if number else None

    @property
    def venue(self) -> str:
        """Venue of the method, as printed: `CVPR'22`; empty where the table does not say."""
        return self._method_part("venue") or ""

    @property
    def feature(self) -> str:
        """`I3D`, `UNT` or a dash; empty where neither the table nor the text says."""
        return self.labels.get("Feature", self.features)

    @property
    def configuration(self) -> str:
        """Name that rows of one data set share if they are the same system."""
        return self.same or self.id

    def value(self, column: str) -> float | None:
        """Return the number under a column, in the table's unit; None for a dash or a blank.

        Raises:
            UserError: no such column.
        """
        if column not in self.cells:
            known = ", ".join(self.cells)
            raise UserError(f"Unknown column {column!r}{did_you_mean(column, self.cells)} Columns: {known}.")
        text = self.cells[column]
        return float(text) if NUMBER.fullmatch(text) else None

    def _method_part(self, group: str) -> str | None:
        match = PRINTED_METHOD.fullmatch(self.labels.get(METHOD, ""))
        return match[group] if match else None


class PublishedTable(Spec):
    """Table of the paper.

    The file gives each row's `labels` and `cells` as lists in the order of the table's `labels` and `columns`, and
    `features` of all rows where they are the same.
    """

    number: str = Field(description="I to IX")
    title: str = Field(description="ours, short")
    caption: str = Field(description="as printed")
    dataset: str = Field(description="family: thumos14, activitynet13, fineaction; empty: none")
    source: str
    unit: str = Field(description="of all values")
    protocol: str = Field(description="evaluator and video list, `unstated` where the paper does not say")
    selection: Selection = Field(description="which checkpoint was kept")
    labels: tuple[str, ...] = Field(description="headings of the texts before the values")
    columns: tuple[Column, ...]
    best_within: str = Field("", description="the best is in bold among rows with one value here: a label or `method`")
    rows: tuple[PublishedRow, ...]

    @model_validator(mode="before")
    @classmethod
    def _by_heading(cls, data: Any) -> Any:
        headings = {"labels": data["labels"], "cells": [column["name"] for column in data["columns"]]}
        features = data.get("features", "")
        rows = []
        for row in data["rows"]:
            for kind, names in headings.items():
                if len(row[kind]) != len(names):
                    raise ValueError(f"row {row['id']}: {len(row[kind])} {kind} for {len(names)} columns")
            named = {kind: dict(zip(names, row[kind], strict=True)) for kind, names in headings.items()}
            rows.append({"features": features} | row | named)
        return {name: value for name, value in data.items() if name != "features"} | {"rows": rows}

    @model_validator(mode="after")
    def _consistent(self) -> PublishedTable:
        for what, names in {
            "rows have one id": [row.id for row in self.rows],
            "columns have one heading": [*self.labels, *(column.name for column in self.columns)],
        }.items():
            if len(set(names)) < len(names):
                raise ValueError(f"two {what}: {', '.join(names)}")
        if self.best_within not in ("", "method", *self.labels):
            raise ValueError(f"best_within = {self.best_within!r} is neither a label nor `method`")
        return self

    def row(self, name: str) -> PublishedRow:
        """Return the row with this id.

        Raises:
            UserError: no such row.
        """
        return by_id(self.rows, name, f"table {self.number}")

    def group(self, row: PublishedRow) -> str:
        """Return the name of the row's group: the best is in bold within a group."""
        return row.method if self.best_within == "method" else row.labels.get(self.best_within, "")


class PublishedClaim(Spec):
    """Number that the text states about two rows of a table."""

    id: str
    about: str = Field(description="claims with one value here state one quantity")
    where: str = Field(description="section of the paper")
    quote: str
    quoted: str = Field(pattern=f"^{NUMBER.pattern}$", description="the number as printed; the paper writes it with %")
    table: str
    better: str = Field(description="id of a row")
    worse: str | None = Field(None, description="id of a row; None: the best of the others of the same group")
    columns: tuple[str, ...] = Field((), description="columns that the sentence allows; none: it does not say")


class SourceRow(Spec):
    """Row of a work as a source of its own has it: its paper, its code's pages, or a list of the data set's authors."""

    work: str = Field(description="name of the work; others of its names are in the references")
    dataset: str = Field(description="family, as of a table")
    cells: dict[str, str] = Field(description="mAPs in percent as printed there, by tIoU or range of tIoUs")
    features: str = Field("", description="as the source names them; empty: it does not")
    source: str = Field(description="where the row stands, and what of it is unchecked")


class Reference(Spec):
    """Entry of the paper's bibliography that a table cites."""

    number: int
    title: str
    venue: str = Field(description="as the tables abbreviate it: `CVPR'22`; empty where the entry has none")
    names: tuple[str, ...] = Field(description="names that the work goes by")


class TrainingLogs(Spec):
    """What choosing the checkpoint on the test set gave in the public training logs of one work."""

    work: str
    repository: str = Field(description="on GitHub")
    dataset: str
    over: str = Field(description="tIoUs of the mean mAP")
    runs: int = Field(description="with at least 40 evaluations")
    median: float = Field(description="of the best evaluation minus the mean of the last quarter, in points")
    least: float
    most: float


@cache
def published_tables() -> dict[str, PublishedTable]:
    """Return the paper's tables by number, I to IX."""
    return {
        number: PublishedTable.model_validate(_load(f"table_{number}.toml") | {"number": number}) for number in NUMERALS
    }


@cache
def claims() -> tuple[PublishedClaim, ...]:
    """Return the numbers that the text states about the tables, in its order.

    Raises:
        UserError: a claim names a table, row or column that is not there.
    """
    found = tuple(map(PublishedClaim.model_validate, _load("claims.toml")["claims"]))
    for claim in found:
        table = find_table(claim.table)
        better = table.row(claim.better)
        if claim.worse is not None:
            table.row(claim.worse)
        for column in claim.columns:
            better.value(column)
    return found


@cache
def references() -> dict[int, Reference]:
    """Return the entries of the bibliography that the tables cite, by number."""
    return {entry.number: entry for entry in map(Reference.model_validate, _load("references.toml")["references"])}


@cache
def source_rows() -> tuple[SourceRow, ...]:
    """Return rows of the tables' works as their own sources have them."""
    return tuple(map(SourceRow.model_validate, _load("source_rows.toml")["rows"]))


@cache
def training_logs() -> tuple[TrainingLogs, ...]:
    """Return what public training logs say about choosing the checkpoint on the test set."""
    return tuple(map(TrainingLogs.model_validate, _load("training_logs.toml")["logs"]))


def find_table(name: str) -> PublishedTable:
    """Return a table by its number, `I` or `table_I`.

    Raises:
        UserError: no such table.
    """
    tables = published_tables()
    number = name.removeprefix("table_")
    if number not in tables:
        raise UserError(f"Unknown table {name!r}{did_you_mean(number, tables)} Tables: {', '.join(tables)}.")
    return tables[number]


def _load(name: str) -> dict[str, Any]:
    return tomllib.loads((files("harness") / "shipped" / "published" / name).read_text(encoding="utf-8"))
