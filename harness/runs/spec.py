"""Specification of a run: the method's recipe on a data set with a seed, and the names that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from harness.data.class_scores import DIGEST
from harness.data.source import DataSource
from harness.io.encoding import canonical_json, sha256
from harness.records.schema import IDENTITY, data_identity, identity_digest, run_id
from harness.registry import load_method
from harness.runs.fitted import fitted_options
from harness.runs.overrides import differences, override
from harness.runs.plans import Row
from harness.runs.schedules import schedule_for
from wstal.errors import UserError
from wstal.method import Recipe, TrainSpec
from wstal.spec import HierarchyOptions
from wstal.streams import StreamOptions

version = cache(metadata.version)  # read from the disk


@dataclass(frozen=True)
class RunSpec:
    """Specification of a run: all that decides its numbers.

    Args:
        method: the method's registered name.
        seed: decides every random draw.
        recipe: resolved options, schedule and localizer.
        schedule: where the data set's schedule departs from the method's own recipe, for people.
        ablation: where the data set's schedule for ablations, and the plan's row, depart from that, as `schedule`
            and `row`, for people; None for the method itself, also where a row is just that.
        overrides: the user's options, as given, for people.
        data: the data set's description, digests included.
        headline: protocol that ranks methods.
        tious: thresholds of the evaluation.
    """

    method: str
    seed: int
    recipe: Recipe
    schedule: dict[str, Any]
    ablation: dict[str, dict[str, Any]] | None
    overrides: dict[str, Any]
    data: dict[str, Any]
    headline: str
    tious: tuple[float, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the numbers."""
        return identity_digest(
            self.data,
            version("wstal-bench"),
            method=self.method,
            seed=self.seed,
            recipe=self.recipe.model_dump(mode="json"),
            headline=self.headline,
            tious=self.tious,
        )

    @property
    def recipe_changes(self) -> dict[str, Any]:
        """Changes of the recipe by origin, for people: one run may be planned in several ways."""
        return {"schedule": self.schedule, "ablation": self.ablation, "overrides": self.overrides}

    @property
    def trained_by(self) -> str:
        """SHA-256 of what decides the weights: options that only score or localize are left out."""
        recipe = self.recipe.model_dump(mode="json")
        return training_digest(self.method, self.seed, recipe, self.data, version("wstal-bench"))

    @property
    def id(self) -> str:
        """The run's name: readable parts and ten digits of the digest."""
        return run_id(self.data["name"], self.method, self.seed, self.digest)


def training_digest(method: str, seed: int, recipe: dict[str, Any], data: dict[str, Any], package: str) -> str:
    """Return `RunSpec.trained_by` from the parts of a spec or of a record.

    Args:
        method: registered name.
        seed: of the run.
        recipe: as JSON values.
        data: description of the data set.
        package: version of this package.
    """
    scoring = load_method(method).SCORING_OPTIONS
    options = {name: value for name, value in recipe["method"].items() if name not in scoring}
    schedule = {name: value for name, value in recipe["train"].items() if name != "test_length"}
    seen = data_identity(data)
    if seen.get("digests"):  # class scores of test videos are for localizers
        seen["digests"] = {name: value for name, value in seen["digests"].items() if name != DIGEST} or None
    return sha256(canonical_json([IDENTITY, method, seed, options, schedule, seen, package]))


def plan_run(
    method: str,
    seed: int,
    source: DataSource,
    overrides: dict[str, Any],
    row: Row | None = None,
    description: dict[str, Any] | None = None,
) -> RunSpec:
    """Resolve a run: the method's recipe for the data set, the data set's schedule, then the user's overrides.

    A data set that no paper and no shipped schedule covers, or whose shipped schedule asks for it, has the recipe
    fitted to its size first.

    Args:
        method: registered name.
        seed: of the run.
        source: the data set.
        overrides: the user's options.
        row: of an ablation plan, of this method; its options come before the user's, its schedule is that of
            ablations.
        description: of the data set, where `source.describe()` was called before.

    Raises:
        UserError: unknown method or option, or a negative seed.
    """
    if seed < 0:
        raise UserError(f"A seed is a whole number from 0, got {seed}.")
    own = load_method(method).recipe(source.family)
    stated: dict[str, Any] = {"train.temporal_length": source.sample_length} if source.sample_length else {}
    if issubclass(load_method(method).Options, StreamOptions):
        stated["method.streams"] = list(source.stream_widths)
    if issubclass(load_method(method).Options, HierarchyOptions):
        stated["method.coarse_classes"] = list(source.coarse_classes)
    schedule = schedule_for(source.schedule)
    scheduled = override(own, stated | fitted_options(own, source) | schedule.options(method))
    planned, ablation = scheduled, None
    if row is not None:
        cheaper = override(own, stated | fitted_options(own, source) | schedule.options(method, ablation=True))
        if row.trained_as is not None:
            other = load_method(row.trained_as).recipe(source.family)
            as_planned = schedule.options(row.trained_as, ablation=True)
            train = override(other, stated | fitted_options(other, source) | as_planned).train
            if _effective(train) != _effective(cheaper.train):
                cheaper = cheaper.model_copy(update={"train": train})
        planned = override(cheaper, row.options)
        recipe_changes = {"schedule": differences(cheaper, scheduled), "row": differences(planned, cheaper)}
        ablation = recipe_changes if any(recipe_changes.values()) else None
    recipe, changed = override(planned, overrides), differences(scheduled, own)
    data = source.describe() if description is None else description
    return RunSpec(method, seed, recipe, changed, ablation, overrides, data, source.headline, source.tious)


def _effective(train: TrainSpec) -> TrainSpec:
    """Return the schedule without a decay that never comes."""
    never = train.decay_every is not None and train.decay_every >= train.epochs
    return train.model_copy(update={"decay_every": None}) if never else train
