"""Training schedules of data sets: small TOML files, chosen without the test set."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from wstal.spec import Spec


class Ablations(Spec):
    """Changes of recipes for the rows of ablation plans on one data set."""

    why: str = Field(description="how the values were chosen")
    every_method: dict[str, Any] = Field({}, description="options of every row, by dotted name, over the schedule's")
    methods: dict[str, dict[str, Any]] = Field({}, description="options of one method's rows, over those of all")
    seeds: tuple[int, ...] | None = Field(None, description="seeds of every row (default: the plan's own)")


class Schedule(Spec):
    """Changes of the methods' own recipes on one data set, and how they were chosen."""

    why: str = Field("", description="how the values were chosen")
    reasons: dict[str, str] = Field({}, description="the same for single methods, where `why` leaves them out")
    seeds: tuple[int, ...] = Field((0, 1, 2), description="seeds of the main job")
    fitted: bool = Field(False, description="recipes are fitted to the data's size first, see `harness.runs.fitted`")
    every_method: dict[str, Any] = Field({}, description="options of all methods, by dotted name")
    methods: dict[str, dict[str, Any]] = Field({}, description="options of one method, over those of all")

    ablations: Ablations | None = Field(None, description="for rows of ablation plans, where they differ")

    def options(self, method: str, ablation: bool = False) -> dict[str, Any]:
        """Return the changes for one method.

        Args:
            method: registered name.
            ablation: for a row of an ablation plan, not for the method by itself.

        Returns:
            Values by dotted name.
        """
        own = self.every_method | self.methods.get(method, {})
        if ablation and self.ablations:
            own |= self.ablations.every_method | self.ablations.methods.get(method, {})
        return own


@cache
def schedule_for(dataset: str) -> Schedule:
    """Return the shipped schedule of a data set by its name, an empty one where none is shipped."""
    file = files("harness") / "shipped" / "schedules" / f"{dataset}.toml"
    if not file.is_file():
        return Schedule()
    return Schedule.model_validate(tomllib.loads(file.read_text()))
