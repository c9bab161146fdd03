"""Figures that stress tests measure, for `results/reliability.md`."""

from __future__ import annotations

import json
import os


def report(what: str, figure: str, command: str) -> None:
    """Append a line to the file that $WSTAL_RELIABILITY names; `python -m harness.studies.reliability` reads it."""
    if path := os.environ.get("WSTAL_RELIABILITY"):
        line = json.dumps({"what": what, "figure": figure, "command": command})
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
