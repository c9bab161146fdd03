from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from baselines.acmnet import AcmNet
from harness import registry
from wstal.errors import UserError


def test_our_own_methods_come_through_entry_points() -> None:
    assert registry.load_method("acmnet") is AcmNet
    assert AcmNet.name in registry.method_entries()


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'acmnet'"):
        registry.load_method("acm-net")


def test_a_method_tells_its_source_and_an_unregistered_one_counts_as_released_code() -> None:
    sources = [registry.method_source(name) for name in ("acmnet", "rmgcl-gksa", "stpn-rmgcl-gksa", "random", "none")]
    assert sources == ["released code", "paper", "paper, partly", "ours", "released code"]


def fake(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    entries = [EntryPoint("thing", value, registry.GROUP) for value in values]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)


def test_two_packages_with_one_name_is_an_error_naming_both(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "one.module:A", "other.module:B")
    with pytest.raises(UserError, match=r"one\.module:A.*other\.module:B"):
        registry.method_entries()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:A", "cannot be imported"),
        ("json:nothing", "cannot be imported"),
        ("json:dumps", "not a subclass"),
    ],
)
def test_a_broken_plugin_is_a_message(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    fake(monkeypatch, value)
    with pytest.raises(UserError, match=message):
        registry.load_method("thing")
