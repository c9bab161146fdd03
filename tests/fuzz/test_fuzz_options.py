"""What people type: thresholds, names, tests and option values of any form end in a result or in one message."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.io.encoding import canonical_json
from harness.registry import load_method
from harness.runs.overrides import override, parse_assignments
from tests.fuzz.cases import EVALUATE, QUERY, Bench, bench_in
from tests.fuzz.mutations import NAMES, toml_tokens
from wstal.errors import UserError

SETTINGS = settings(
    max_examples=20, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
numbers = st.sampled_from(
    ["0.1", "0", "1", "-1", "1e-999999", "1e999999", "nan", "inf", "0.1" * 9, "9" * 5_000, "", " ", "٠٫١"]
)
tious = st.lists(numbers, max_size=4).map(":".join) | st.lists(numbers, max_size=4).map(",".join) | st.text(max_size=9)
typed = st.sampled_from(NAMES) | st.text(max_size=12)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, bench_in(tmp_path_factory.mktemp("fuzz"), patch) as made:
        yield made


@SETTINGS
@given(tious)
@example("0.1:1e-9:0.9")
@example("0.1:0.001:1")
def test_thresholds(bench: Bench, text: str) -> None:
    bench.check("--tious", (*EVALUATE, f"--tious={text}"))


@SETTINGS
@given(st.sampled_from(["--subset", "--protocol"]), typed)
def test_names(bench: Bench, option: str, text: str) -> None:
    bench.check(option, (*EVALUATE, f"{option}={text}"))


@SETTINGS
@given(st.sampled_from(["id", "data", "seed", "mean", "recipe.train.epochs", "x", ""]), toml_tokens | typed)
@example("id", "[" * 10_000)
@example("seed", "9" * 5_000)
def test_tests_of_records(bench: Bench, field: str, text: str) -> None:
    bench.check("--where", (*QUERY, f"--where={field}={text}"))
    bench.check("--fields", (*QUERY, f"--fields={text}"))


fields = st.sampled_from([
    "train.epochs", "train.learning_rate", "train.betas", "train", "train.epochs.x", "method.dropout", "method.memory",
    "method.memory.length", "method.contrast", "method..x", "localizer.nms.threshold", "localizer", "x", ".",
])  # fmt: skip


@settings(SETTINGS, max_examples=200)
@given(
    st.sampled_from(["acmnet", "rmgcl-gksa"]), st.lists(st.tuples(fields, toml_tokens | typed), min_size=1, max_size=3)
)
@example("acmnet", [("train.epochs", "9" * 5_000)])
@example("acmnet", [("train.epochs", "[" * 10_000)])
@example("acmnet", [("train.epochs", "20\nmethod.dropout = 0.9")])
def test_options_of_a_recipe(method: str, given_values: list[tuple[str, str]]) -> None:
    recipe = load_method(method).recipe("thumos14")
    message = ""
    try:
        changed = override(recipe, parse_assignments(f"{field}={text}" for field, text in given_values))
        canonical_json(changed.model_dump(mode="json"))  # what is taken can be stored
    except UserError as error:
        message = str(error)
    assert len(message) < 5_000
    assert "\n" not in message
    message.encode()
