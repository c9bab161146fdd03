"""No test module imports from another: what they share is in tests/helpers or in a helper module beside them."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]


def test_no_test_module_is_imported() -> None:
    imported = re.compile(r"(?:from|import) tests\.(?:\S+\.)?test_\w+|from tests\.\S* import .*\btest_\w+")
    found = {str(file.relative_to(TESTS)): imported.findall(file.read_text()) for file in TESTS.rglob("*.py")}
    assert len(found) > 100
    assert {name: lines for name, lines in found.items() if lines} == {}
