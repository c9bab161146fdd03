"""Every public function of `wstal` has an example in its docstring, and every example gives the result it states."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import wstal

MODULES = [importlib.import_module(info.name) for info in pkgutil.walk_packages(wstal.__path__, "wstal.")]


def public_functions(module: ModuleType) -> set[str]:
    assert module.__file__ is not None
    body = ast.parse(Path(module.__file__).read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


def examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_function_has_an_example(module: ModuleType) -> None:
    assert public_functions(module) <= {test.name.removeprefix(f"{module.__name__}.") for test in examples(module)}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples_run(module: ModuleType) -> None:
    runner = doctest.DocTestRunner()
    for test in examples(module):
        report: list[str] = []
        assert not runner.run(test, out=report.append).failed, "".join(report)


def test_the_public_functions_are_found() -> None:
    assert sum(len(public_functions(module)) for module in MODULES) > 70
