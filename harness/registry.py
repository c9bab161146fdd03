"""Registry of methods by name, found through entry points, so that third-party methods are equal to built-in ones."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from harness.io.console import say
from harness.io.text import did_you_mean
from wstal.errors import UserError

if TYPE_CHECKING:
    from wstal.method import Method
    from wstal.types import Source

GROUP = "wstal_bench.methods"
# names of earlier versions: of methods, of plans and of their rows
RENAMED = {
    "ours": "rmgcl-gksa",
    "basnet-ours": "basnet-rmgcl-gksa",
    "facnet-ours": "facnet-rmgcl-gksa",
    "stpn-ours": "stpn-rmgcl-gksa",
    "bas-net-ours": "bas-net-rmgcl-gksa",
    "fac-net-ours": "fac-net-rmgcl-gksa",
    "readings": "interpretations",
}


def current_name(kind: str, name: str) -> str:
    """Return a name as it is today, with a note on stderr where it is one of an earlier version.

    Args:
        kind: what it names, for the note.
        name: the name as given.
    """
    if name in RENAMED:
        say(f"The {kind} `{name}` is now called `{RENAMED[name]}`.")
    return RENAMED.get(name, name)


def entry_points(group: str) -> Iterable[EntryPoint]:
    """Return the entry points of a group in all installed packages (scanned once for each `sys.path`)."""
    return _entry_points(group, tuple(sys.path))


@cache
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    return tuple(metadata.entry_points(group=group))


def method_entries() -> dict[str, EntryPoint]:
    """Return the entry points of all installed methods by name, sorted, without importing them.

    Raises:
        UserError: two packages register the same name.
    """
    entries: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        other = entries.get(entry.name)
        if other is not None and other.value != entry.value:
            raise UserError(
                f"Method {entry.name!r} is registered twice: {_origin(other)} and {_origin(entry)}. Uninstall one."
            )
        entries[entry.name] = entry
    return entries


def load_method(name: str) -> type[Method]:
    """Import a method's class.

    Raises:
        UserError: no such method (with the nearest name), or it cannot be imported or is no `Method`.
    """
    entries = method_entries()
    if name not in entries:
        raise UserError(f"Unknown method {name!r}{did_you_mean(name, entries)} Methods: {', '.join(entries)}.")
    from wstal.method import Method

    try:
        method = entries[name].load()
    except (ImportError, AttributeError, TypeError) as error:
        raise UserError(f"Method {name!r} ({_origin(entries[name])}) cannot be imported: {error}") from error
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise UserError(f"Method {name!r} ({_origin(entries[name])}) is not a subclass of wstal.method.Method.")
    return method


def weak_methods() -> list[str]:
    """Return the names of all installed methods but those that train on times."""
    return [name for name in method_entries() if load_method(name).supervision != "full"]


def method_source(name: str) -> Source:
    """Return what the implementation of a method follows (`Method.source`), of an unregistered one released code."""
    return load_method(name).source if name in method_entries() else "released code"


def method_origin(name: str) -> str:
    """Return the origin of a method: module and class, package and its version."""
    return _origin(method_entries()[name])


def _origin(entry: EntryPoint) -> str:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown package"
    return f"{entry.value} of {package}"
