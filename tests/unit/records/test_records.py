"""Records: what is refused, older schemas, the stored JSON Schema, and that no run changes its name."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.io.encoding import canonical_json, pretty_json
from harness.records.query import flatten
from harness.records.reading import list_records, load_records, read_record
from harness.records.schema import SCHEMA, Record, json_schema, migrate, run_id
from harness.runs import spec as run_spec
from harness.studies.cost import CostFile
from harness.studies.released import Rescored
from tests.helpers.records import make_record
from wstal.errors import UserError
from wstal.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS, tiou_key

ROOT = Path(__file__).parents[3]
OLD = ROOT / "tests" / "data" / "record-1.json"
SCHEMAS = ROOT / "results" / "schema"
STORED = sorted((ROOT / "results" / "records").glob("**/*.json"))


def changed(record: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """A copy with another value at a place: names between slashes, since tIoUs hold dots."""
    record = copy.deepcopy(record)
    *parents, last = place.split("/")
    inner = record
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return record


def read(folder: Path, record: object) -> dict[str, Any]:
    (folder / "bad.json").write_text(json.dumps(record))
    return read_record(folder / "bad.json")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(pretty_json(make_record()))
    assert pretty_json(read_record(tmp_path / "record.json")) == pretty_json(make_record())


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("metrics/anet/mAP/0.1", math.nan, r"metrics\.anet\.mAP\.0\.1 is nan: .*finite"),
        ("metrics/anet/mAP/0.1", math.inf, r"metrics\.anet\.mAP\.0\.1 is inf: .*finite"),
        ("metrics/anet/mAP/0.1", 120, r"metrics\.anet\.mAP\.0\.1 is 120: .*less than or equal to 100"),
        ("metrics/anet/mAP/0.1", -1, r"metrics\.anet\.mAP\.0\.1 is -1: .*greater than or equal to 0"),
        ("metrics/anet/mAP/0.1", "20", r"metrics\.anet\.mAP\.0\.1 is '20'"),
        ("metrics/anet/mAP/0.1", None, r"metrics\.anet\.mAP\.0\.1 is None"),
        ("metrics/anet/per_class/Run/0.5", 100.1, r"metrics\.anet\.per_class\.Run\.0\.5 is 100\.1"),
        ("metrics/anet/per_class/Run/0.5", 80.0, r"metrics\.anet: mAP\.0\.5 is 12\.0, the mean of its members 46\.5"),
        ("metrics/anet/averages/0.1:0.5", 16.001, r"metrics\.anet: averages\.0\.1:0\.5 is 16\.001, the mean .* 16\.0"),
        ("metrics/anet/averages/0.1:0.7", 14.0, r"average '0\.1:0\.7' is of tIoUs that mAP lacks"),
        ("metrics/anet/per_class/Run", {"0.1": 19.0}, r"class 'Run' has other tIoUs"),
        ("metrics/anet/mAP", {}, r"metrics\.anet\.mAP: .*at least 1"),
        ("classes", ["Jump"], r"anet has the class 'Run'"),
        ("headline", "anet-210", r"headline 'anet-210' is none of its protocols: anet\."),
        ("seed", -1, r"seed is -1"),
        ("seed", 1, r"data, method, seed and digest make 'data-acmnet-s1-"),
        ("seed", True, r"seed is True"),
        ("digest", "f" * 64, r"make 'data-acmnet-s0-ffffffffff'"),
        ("digest", "F" * 64, r"digest is 'F"),
        ("data/name", "other", r"make 'other-acmnet-s0-"),
        ("data/name", "../../escaped", r"data\.name is '\.\./\.\./escaped': .*pattern"),
        ("data/name", "Mine", r"data\.name is 'Mine': .*pattern"),
        ("data/name", "a/b", r"data\.name is 'a/b': .*pattern"),
        ("data/name", "a\n", r"data\.name is 'a\\n': .*pattern"),
        ("data/name", "readme", r"data\.name is 'readme': 'readme' is the name of other pages"),
        ("data/name", "table_i", r"'table_i' is the name of other pages"),
        ("data/name", "rescored", r"'rescored' is the name of other pages"),
        ("data/name", "tables", r"'tables' is the name of other pages"),
        ("data/name", "figures", r"'figures' is the name of other pages"),
        ("data/name", "data-ablations", r"'data-ablations' is the name of other pages"),
        ("synthetic", True, r"`synthetic` is to be true where `data` has a generator, and only there"),
        ("data/generator", {"seed": 0}, r"`synthetic` is to be true where `data` has a generator"),
        ("method", "acmnett", r"method: 'acmnett' is not registered; did you mean 'acmnet'\?"),
        ("training/final_loss/total", math.nan, r"training\.final_loss\.total is nan"),
        ("training/diagnostics/fill", [1, math.nan], r"training\.diagnostics\.fill\.list\.1\S* is nan"),
        ("recipe/train/epochs", -math.inf, r"recipe\.train\.epochs\S* is -inf"),
        ("recipe/trian", {}, r"recipe\.trian: Extra inputs"),
        ("notes", "x", r"notes is 'x': Extra inputs"),
        ("status", "failed", r"status is 'failed'"),
        ("artefacts/history.json", "abc", r"artefacts\.history\.json is 'abc'"),
        ("schema", SCHEMA + 1, rf"schema {SCHEMA + 1}, written by a newer wstal-bench: update it"),
        ("schema", 0, r"no schema number"),
        ("schema", True, r"no schema number"),
        ("schema", "2", r"no schema number"),
    ],
)
def test_what_cannot_be_is_refused_with_path_field_and_remedy(
    tmp_path: Path, place: str, value: object, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        read(tmp_path, changed(make_record(), place, value))
    assert str(refused.value).startswith(str(tmp_path / "bad.json"))
    assert any(remedy in str(refused.value) for remedy in ("Restore the file", "update it", "Install the package"))


@pytest.mark.parametrize("name", sorted(make_record()))
@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_a_record_without_a_field_is_refused(tmp_path: Path, name: str, schema: int) -> None:
    short = {key: value for key, value in (make_record() | {"schema": schema}).items() if key != name}
    if (name, schema) in {("ablation", 1), ("common", 1), ("common", 2)}:
        assert read(tmp_path, short)[name] is None
        return
    with pytest.raises(UserError, match=name):
        read(tmp_path, short)


def test_how_many_errors_there_are_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\(and 1 more\)"):
        read(tmp_path, changed(changed(make_record(), "seed", -1), "status", "failed"))


@given(st.floats(0, 100), st.floats(-2e-6, 2e-6))
def test_an_average_may_be_off_by_rounding_alone(mean: float, off: float) -> None:
    cells = dict.fromkeys(("0.1", "0.2", "0.3", "0.4", "0.5"), mean)
    stored = min(max(mean + off, 0), 100)
    record = changed(make_record(), "metrics/anet", {
        "mAP": cells, "averages": {"0.1:0.5": stored}, "per_class": {"Run": cells}, "videos": 1, "instances": 1,
        "detections": 0,
    })  # fmt: skip
    if abs(stored - mean) < 0.99e-6:
        Record.model_validate(record)
    elif abs(stored - mean) > 1.01e-6:
        with pytest.raises(ValueError, match="the mean of its members"):
            Record.model_validate(record)


def test_the_oldest_record_is_read_and_keeps_its_numbers() -> None:
    # as package 0.1.0 wrote it on the first day
    stored = json.loads(OLD.read_bytes())
    assert stored["schema"] == 1
    parts = {*stored, *stored["training"], *stored["environment"]}
    assert parts.isdisjoint({"ablation", "weights_of", "diagnostics", "commit"})
    record = read_record(OLD)
    before, after = flatten(stored), flatten(record)
    assert {name: value for name, value in before.items() if after[name] != value} == {"schema": 1}
    assert record["schema"] == SCHEMA
    assert {name: value for name, value in after.items() if name not in before} == {
        "ablation": None, "common": None, "training.weights_of": None, "training.diagnostics": {},
        "environment.commit": None, "environment.method": None,
    }  # fmt: skip


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
options = st.dictionaries(st.text(min_size=1), json_values, max_size=3)
records = st.builds(
    lambda seed, value, recipe, ablation, overrides, diagnostics, loss, commit: make_record(
        seed=seed,
        value=value,
        recipe={"method": recipe, "train": {}, "localizer": {}},
        ablation=ablation,
        overrides=overrides,
        training={"parameters": 1, "weights_of": None, "final_loss": {"total": loss}, "diagnostics": diagnostics},
        environment=make_record()["environment"] | {"commit": commit},
    ),
    st.integers(0, 2**31),
    st.floats(10, 99),
    options,
    st.none() | st.fixed_dictionaries({"schedule": options, "row": options}),
    options,
    options,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.text(),
)


@given(records)
def test_model_to_json_to_model(record: dict[str, Any]) -> None:
    model = Record.model_validate(record)
    said = model.model_dump_json(exclude_unset=True)
    assert Record.model_validate_json(said) == model
    assert canonical_json(json.loads(said)) == canonical_json(record)


@given(records, st.sets(st.sampled_from(["ablation", "weights_of", "diagnostics", "commit", "method"])))
def test_migration_fills_changes_nothing_else_and_ends(record: dict[str, Any], lacks: set[str]) -> None:
    def without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in names}

    old = without(record, lacks & {"ablation"}) | {
        "schema": 1,
        "training": without(record["training"], lacks),
        "environment": without(record["environment"], lacks),
    }
    before = copy.deepcopy(old)
    new = migrate(old)
    assert old == before
    assert new["schema"] == SCHEMA
    assert migrate(new) == new
    Record.model_validate(new)
    for name in ("id", "digest", "metrics", "artefacts", "recipe", "data"):
        assert new[name] == old[name]
    assert all(new[part][name] == value for part in ("training", "environment") for name, value in old[part].items())


@pytest.mark.parametrize(
    ("name", "model"), [(f"record-{SCHEMA}", Record), ("rescored-1", Rescored), ("cost-1", CostFile)]
)
def test_the_stored_schema_is_the_generated_one(name: str, model: type[BaseModel]) -> None:
    stored = (SCHEMAS / f"{name}.json").read_bytes()
    kind = name.partition("-")[0]
    assert stored == pretty_json(json_schema(model)), f"wstal-bench records schema {kind} > results/schema/{name}.json"


def test_every_stored_file_is_valid_under_its_stored_schema() -> None:
    records = {path: read_record(path) for path in [*STORED, OLD]}
    rescored = {path: json.loads(path.read_bytes()) for path in (ROOT / "results" / "rescored").glob("*.json")}
    cost = {path: json.loads(path.read_bytes()) for path in (ROOT / "results").glob("cost.json")}
    for name, files in ((f"record-{SCHEMA}", records), ("rescored-1", rescored), ("cost-1", cost)):
        assert files
        schema = json.loads((SCHEMAS / f"{name}.json").read_bytes())
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        for value in files.values():
            validator.validate(value)
    assert all(path.stem == record["id"] for path, record in records.items() if path != OLD)


@pytest.mark.parametrize(
    ("place", "value"),
    [("metrics/anet/mAP/0.1", 120), ("seed", -1), ("notes", ""), ("schema", 1), ("digest", "0"), ("title", None)],
)
def test_the_schema_alone_refuses_what_a_field_cannot_be(place: str, value: object) -> None:
    jsonschema.validate(make_record(), json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(make_record(), place, value), json_schema())


def test_every_stored_run_has_the_name_that_its_content_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    # the identity has a version of its own: a new schema of records renames no run
    for path in STORED:
        record = read_record(path)
        monkeypatch.setattr(run_spec, "version", lambda _, record=record: record["environment"]["wstal-bench"])
        keys = list(record["metrics"][record["headline"]]["mAP"])
        listed = tuple(map(float, keys))
        tious = next((t for t in (THUMOS_TIOUS, ACTIVITYNET_TIOUS) if [tiou_key(one) for one in t] == keys), listed)
        recipe: Any = SimpleNamespace(model_dump=lambda mode, record=record: record["recipe"])
        spec = run_spec.RunSpec(
            record["method"], record["seed"], recipe, {}, None, {}, record["data"], record["headline"], tious
        )
        assert (spec.digest, spec.id) == (record["digest"], record["id"])


def test_the_good_are_loaded_and_the_bad_are_named(tmp_path: Path) -> None:
    good = [make_record(seed=seed) for seed in (2, 0, 1)]
    bad = {
        "a-newer.json": make_record(seed=3) | {"schema": SCHEMA + 1},
        "b-nan.json": changed(make_record(seed=4), "metrics/anet/mAP/0.1", math.nan),
        "c-120.json": changed(make_record(seed=5), "metrics/anet/mAP/0.1", 120),
        "d-method.json": make_record(method="acmnett"),
        "f-twice.json": good[0],
    }
    for number, record in enumerate(good):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{number}.json").write_text(json.dumps(record))
    for name, record in bad.items():
        (tmp_path / name).write_text(json.dumps(record))
    (tmp_path / "e-half.json").write_bytes(pretty_json(good[0])[:99])
    records, refused = load_records(tmp_path)
    # the first file by path holds a run; the second that holds it too is the one refused
    assert [record["id"] for record in records] == sorted(record["id"] for record in good)
    names = [path.name for path, _ in refused]
    assert names == ["a-newer.json", "b-nan.json", "c-120.json", "d-method.json", "e-half.json", "f-twice.json"]
    assert all(str(path) in message for path, message in refused)
    assert load_records(tmp_path / "absent") == ([], [])


def stored(folder: Path, records: dict[str, dict[str, Any]]) -> Path:
    for name, record in records.items():
        Record.model_validate(record)
        (folder / name).write_text(json.dumps(record))
    return folder


def other_digest(record: dict[str, Any], digit: str) -> dict[str, Any]:
    digest = digit * 64
    return record | {"digest": digest, "id": run_id(record["data"]["name"], record["method"], record["seed"], digest)}


@pytest.mark.parametrize(
    ("place", "value", "same"),
    [
        (None, None, True),
        ("data/title", "in other words", True),
        ("overrides", {"train.epochs": 3}, True),
        ("environment/threads", 8, True),
        ("recipe/train/epochs", 9, False),
        ("environment/wstal-bench", "1", False),
        ("data/labels", "annotations", False),
    ],
)
def test_one_seed_of_one_system_counts_once(tmp_path: Path, place: str | None, value: object, same: bool) -> None:
    first = make_record()
    again = other_digest(first if place is None else changed(first, place, value), "a")
    stored(tmp_path, {"0.json": first, "1.json": again, "2.json": make_record(seed=1)})
    records, refused = load_records(tmp_path)
    assert len(records) == (2 if same else 3)
    if same:
        ((path, message),) = refused
        assert path == tmp_path / "1.json"
        assert re.search(rf"^{path}: seed 0 of the same method, .* is in {tmp_path / '0.json'}\. Remove one", message)
    # a list of runs has them all
    assert len(list_records(tmp_path)[0]) == 3


@pytest.mark.parametrize("what", ["a protocol more", "a tIoU less", "an average less", "another headline"])
def test_seeds_of_one_system_are_of_one_evaluation(tmp_path: Path, what: str) -> None:
    record = make_record(seed=1)
    metrics = record["metrics"]["anet"]
    longer = metrics | {
        "mAP": metrics["mAP"] | {"0.6": 1.0},
        "per_class": {name: ap | {"0.6": 1.0} for name, ap in metrics["per_class"].items()},
    }
    changes: dict[str, Any] = {
        "a protocol more": {"metrics": {"anet": metrics, "anet-210": metrics}},
        "a tIoU less": {"metrics": {"anet": longer}},
        "an average less": {"metrics": {"anet": metrics, "anet-210": metrics | {"averages": {}}}},
        "another headline": {"metrics": {"anet-210": metrics}, "headline": "anet-210"},
    }
    record |= changes[what]
    stored(tmp_path, {"0.json": make_record(), "1.json": record, "2.json": make_record(method="rmgcl-gksa", seed=1)})
    records, refused = load_records(tmp_path)
    assert [(record["method"], record["seed"]) for record in records] == [("acmnet", 0), ("rmgcl-gksa", 1)]
    ((path, message),) = refused
    assert message.startswith(f"{path}: its protocols or tIoUs are not those of {tmp_path / '0.json'}")


def test_what_has_no_usual_average_is_listed_and_not_ranked(tmp_path: Path) -> None:
    record = changed(make_record(seed=1), "metrics/anet", {
        "mAP": {"0.5": 12.0}, "averages": {}, "per_class": {"Run": {"0.5": 12.0}}, "videos": 1, "instances": 1,
        "detections": 0,
    })  # fmt: skip
    stored(tmp_path, {"0.json": make_record(), "1.json": record})
    records, ((path, message),) = load_records(tmp_path)
    assert [record["seed"] for record in records] == [0]
    assert message.startswith(f"{path}: it has none of the usual averages 0.1:0.5, ")
    assert "over its tIoUs 0.5, by which methods are ranked" in message
    assert len(list_records(tmp_path)[0]) == 2
