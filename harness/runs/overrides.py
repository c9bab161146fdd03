"""Overrides such as `--set train.epochs=20`: fields of a recipe changed by name, checked by its types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from harness.io.reading import parse_toml
from harness.io.text import did_you_mean, printable, problem
from wstal.errors import UserError
from wstal.method import Recipe


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Read assignments: `["train.epochs=20"]` gives `{"train.epochs": 20}`; values are TOML, a bare word is a string.

    Raises:
        UserError: an assignment without `=`.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name.strip():
            raise UserError(f"--set wants FIELD=VALUE (for example train.epochs=20), got {assignment!r}.")
        try:
            values[name.strip()] = parse_toml(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            values[name.strip()] = text.strip()
    return values


def override(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some fields changed.

    Args:
        recipe: a method's defaults.
        values: by dotted name, `method.*`, `train.*` or `localizer.*`, for example `localizer.nms.threshold`.

    Raises:
        UserError: an unknown field (with the nearest name and all names), or a value its type refuses.
    """
    parts: dict[str, BaseModel] = {"method": recipe.method, "train": recipe.train, "localizer": recipe.localizer}
    fields = {part: _fields(model) for part, model in parts.items()}
    for name, value in values.items():
        part, *path = name.split(".")
        if part not in parts or not path:
            raise UserError(f"Unknown option '{printable(name)}': options begin with method., train. or localizer.")
        place: Any = fields[part]
        for depth, field in enumerate(path):
            if not isinstance(place, dict) or field not in place:
                known = place if isinstance(place, dict) else ()
                above = ".".join([part, *path[:depth]])
                hint, names = did_you_mean(field, known), ", ".join(known) or "none"
                raise UserError(f"Unknown option '{printable(name)}'{hint} Options of {above}: {names}.")
            if depth < len(path) - 1:
                place = place[field]
        place[path[-1]] = value
    resolved = {}
    for part, model in parts.items():
        try:
            resolved[part] = type(model).model_validate(fields[part])
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([part, *map(str, first["loc"])])
            # a rule between fields names them itself; its input is the whole model
            given = "" if isinstance(first["input"], dict) else f", got {printable(repr(first['input']))}"
            raise UserError(f"Option {printable(where)}: {problem(first['msg'])}{given}.") from error
    return Recipe.model_validate(resolved)


def differences(recipe: Recipe, default: Recipe) -> dict[str, Any]:
    """Return the fields in which a recipe differs from another of the same method.

    Args:
        recipe: the changed one.
        default: what it is compared with.

    Returns:
        Values of `recipe` by dotted name.
    """
    if recipe == default:
        return {}
    ours, theirs = (_flat(to_jsonable_python(_fields(one))) for one in (recipe, default))
    return {name: value for name, value in ours.items() if name not in theirs or value != theirs[name]}


def _fields(model: BaseModel) -> dict[str, Any]:
    """Return all fields; a dump leaves out those that are not written at their default."""
    return {name: _fields(value) if isinstance(value, BaseModel) else value for name, value in model}


def _flat(fields: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat
