"""Overrides such as `--set train.epochs=20`: fields of a recipe changed by name, checked by its types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from harness.io.reading import parse_toml
from harness.io.text import printable, problem
from wstal.errors import UserError
from wstal.method import Recipe, TrainSpec

NONE = "none"  # TOML has no word for it


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Read assignments: `["train.epochs=20"]` gives `{"train.epochs": 20}`; values are TOML, a bare word is a string.

    `none`, also written `null`, is nothing where an option may be without a value (see `override`).

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
            word = text.strip()
            values[name.strip()] = NONE if word in ("null", "None") else word
    return values


def override(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some fields changed.

    Args:
        recipe: a method's defaults.
        values: by dotted name, `method.*`, `train.*` or `localizer.*`, for example `localizer.nms.threshold`. `"none"`
            is None where the option may be None and has no value of that name.

    Raises:
        UserError: an unknown field (with the nearest name and all names), or a value its type refuses.
    """
    parts: dict[str, BaseModel] = {"method": recipe.method, "train": recipe.train, "localizer": recipe.localizer}
    fields = {part: _fields(model) for part, model in parts.items()}
    for name, value in values.items():
        part, *path = name.split(".")
        if part not in parts or not path:
            hint = _hint(name, _flat({"train": fields["train"]} | fields))
            raise UserError(
                f"Unknown option '{printable(name)}'{hint} Options begin with method., train. or localizer., and "
                "`wstal-bench ls options METHOD` lists them."
            )
        place: Any = fields[part]
        owner: Any = parts[part]
        for depth, field in enumerate(path):
            if not isinstance(place, dict) or field not in place:
                known = place if isinstance(place, dict) else ()
                above = ".".join([part, *path[:depth]])
                hint, names = _hint(field, known), ", ".join(known) or "none"
                raise UserError(f"Unknown option '{printable(name)}'{hint} Options of {above}: {names}.")
            if depth < len(path) - 1:
                place, owner = place[field], getattr(owner, field)
        place[path[-1]] = None if value == NONE and _may_be_none(type(owner), path[-1]) else value
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


def training_options() -> dict[str, str]:
    """Return the options of training by the words that people write for them (`spellings`)."""
    return spellings(f"train.{field}" for field in TrainSpec.model_fields)


def spellings(options: Iterable[str]) -> dict[str, str]:
    """Return options by the words that people write for them: last part and initials; the first option has a word.

    Args:
        options: dotted names.

    Example:
        >>> spellings(["train.learning_rate", "train.epochs"])
        {'learning_rate': 'train.learning_rate', 'lr': 'train.learning_rate', 'epochs': 'train.epochs'}
    """
    known: dict[str, str] = {}
    for option in options:
        last = option.rpartition(".")[2]
        for word in (last, "".join(part[:1] for part in last.split("_"))):
            if len(word) > 1:
                known.setdefault(word, option)
    return known


def _hint(name: str, options: Iterable[str]) -> str:
    known = spellings(options)
    near = get_close_matches(name.rpartition(".")[2].lower().replace("-", "_"), known, n=1)
    return f"; did you mean {known[near[0]]!r}?" if near else "."


def _may_be_none(model: type[BaseModel], field: str) -> bool:
    """Test whether a field takes None and has no value that is called so."""
    kinds = get_args(model.model_fields[field].annotation)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    return type(None) in kinds and NONE not in words


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
