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
from harness.records.collection import add_records, lines_file, plan_migration
from harness.records.diff import diff
from harness.records.grouping import SystemKey, average
from harness.records.migrations import TITLES, migrate
from harness.records.query import flatten, select
from harness.records.reading import list_records, read_record
from harness.records.schema import SCHEMA, Record, json_schema, run_id
from harness.registry import RENAMED, load_method, method_entries
from harness.runs import spec as run_spec
from harness.studies.cost import CostFile
from harness.studies.released import Rescored
from tests.helpers.records import as_record, make_record, without_evaluation
from wstal.errors import UserError
from wstal.evaluation import ACTIVITYNET_TIOUS, THUMOS_TIOUS, tiou_key

ROOT = Path(__file__).parents[3]
OLD = [ROOT / "tests" / "data" / f"record-{schema}.json" for schema in range(1, SCHEMA)]
SCHEMAS = ROOT / "results" / "schema"
STORED = sorted((ROOT / "results" / "records").glob("**/*.jsonl"))


def changed(record: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """A copy with another value at a place: names between slashes, since tIoUs hold dots."""
    record = copy.deepcopy(record)
    *parents, last = (int(name) if name.isdigit() else name for name in place.split("/"))
    inner: Any = record
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return record


def read(folder: Path, record: object) -> Record:
    (folder / "bad.json").write_text(json.dumps(record))
    return read_record(folder / "bad.json")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(pretty_json(make_record()))
    record = read_record(tmp_path / "record.json")
    assert pretty_json(record.to_json()) == pretty_json(make_record())
    assert record.to_bytes() == as_record(json.loads(record.to_bytes())).to_bytes()


def in_schema(record: dict[str, Any], schema: int) -> dict[str, Any]:
    """A record as an older schema had it."""
    if schema == SCHEMA:
        return record
    old = {name: value for name, value in record.items() if name not in ("per_class", "common_localizer")}
    by_class = as_record(record).ap_by_class()
    metrics = {name: one | {"per_class": by_class} for name, one in record["metrics"].items()}
    return old | {"schema": schema, "metrics": metrics, "common": None}


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("metrics/anet/mAP/0.1", math.nan, r"metrics\.anet\.mAP\.0\.1 is nan: .*finite"),
        ("metrics/anet/mAP/0.1", math.inf, r"metrics\.anet\.mAP\.0\.1 is inf: .*finite"),
        ("metrics/anet/mAP/0.1", 120, r"metrics\.anet\.mAP\.0\.1 is 120: .*less than or equal to 100"),
        ("metrics/anet/mAP/0.1", -1, r"metrics\.anet\.mAP\.0\.1 is -1: .*greater than or equal to 0"),
        ("metrics/anet/mAP/0.1", "20", r"metrics\.anet\.mAP\.0\.1 is '20'"),
        ("metrics/anet/mAP/0.1", None, r"metrics\.anet\.mAP\.0\.1 is None"),
        ("per_class/1", [100.1] * 5, r"per_class\.1\.0 is 100\.1"),
        ("per_class/1", [19.0, 17.0, 15.0, 13.0, 80.0], r"anet\.mAP\.0\.5 is 12\.0, the mean of its members 46\.5"),
        ("metrics/anet/averages/0.1:0.5", 16.001, r"metrics\.anet: averages\.0\.1:0\.5 is 16\.001, the mean .* 16\.0"),
        ("metrics/anet/averages/0.1:0.7", 14.0, r"average '0\.1:0\.7' is of tIoUs that mAP lacks"),
        ("per_class/1", [19.0], r"a row of `per_class` has not the 5 tIoUs of mAP"),
        ("per_class", [[20.0] * 5], r"`per_class` has 1 rows for 2 classes"),
        ("per_class", [None, None], r"`per_class` has no class with an instance"),
        ("metrics/anet/mAP", {}, r"metrics\.anet\.mAP: .*at least 1"),
        ("classes", ["Jump"], r"`per_class` has 2 rows for 1 classes"),
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


def test_a_record_without_evaluation_has_no_number_that_a_reader_could_take(tmp_path: Path) -> None:
    bare = without_evaluation(make_record())
    record = read(tmp_path, bare)
    assert record.to_json() == bare
    assert record.to_bytes() == as_record(json.loads(record.to_bytes())).to_bytes()
    assert (record.evaluated, record.found, record.ap_by_class()) == (False, 9, {})
    jsonschema.validate(bare, json_schema())
    for reader in (lambda: record.scored, lambda: average(record)):
        with pytest.raises(UserError, match=r"has no mAP: its test videos had no ground truth\. `wstal-bench evaluate"):
            reader()
    assert select([record], fields=["mean"]) == [{"mean": None}]
    assert diff(record, record).agree
    assert [gap.note for gap in diff(record, as_record(make_record())).metrics] == ["only in the second run"]


def test_a_record_without_evaluation_is_never_ranked(tmp_path: Path) -> None:
    add_records(tmp_path, [as_record(without_evaluation(make_record())), as_record(make_record(seed=1))])
    assert [len(found) for found in list_records(tmp_path)] == [2, 0]
    (ranked,), ((_, why),) = list_records(tmp_path, ranked=True)
    assert ranked.seed == 1
    assert "had no ground truth, so it has no mAP to be ranked by. Leave it out" in why


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"detections": None}, "`detections` is to be stated where there are no `metrics`"),
        ({"metrics": make_record()["metrics"]}, "`detections` is to be stated where there are no `metrics`, and only"),
        ({"per_class": make_record()["per_class"]}, "it has no `metrics`, but other numbers of an evaluation"),
        ({"common_localizer": make_record()["metrics"]["anet"]}, "but other numbers of an evaluation"),
        ({"per_class": []}, "`per_class` has 0 rows for 2 classes"),
    ],
)
def test_half_an_evaluation_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        read(tmp_path, without_evaluation(make_record()) | change)


@pytest.mark.parametrize(
    ("schema", "name"),
    [(schema, name) for schema in range(1, SCHEMA + 1) for name in sorted(in_schema(make_record(), schema))],
)
def test_a_record_without_a_field_is_refused(tmp_path: Path, name: str, schema: int) -> None:
    short = {key: value for key, value in in_schema(make_record(), schema).items() if key != name}
    if (name, schema) in {("ablation", 1), ("common", 1), ("common", 2)}:
        assert read(tmp_path, short) == as_record(make_record())
        return
    with pytest.raises(UserError, match=name):
        read(tmp_path, short)


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("metrics/anet/per_class/Run", {"0.1": 19.0}, r"the class 'Run' has other tIoUs than mAP"),
        ("metrics/anet/per_class/Run/0.5", 80.0, r"the mean of its members 46\.5"),
        ("metrics/anet/per_class", [], r"it is no record of schema 3"),
        ("metrics/anet", 3, r"it is no record of schema 3"),
        ("metrics", None, r"it is no record of schema 3"),
        ("classes", ["Jump"], r"anet has the class 'Run'"),
        ("headline", "x", r"headline 'x' is none of its protocols"),
        ("headline", ["x"], r"it is no record of schema 3"),
        ("common", {"other": {}}, r"it is no record of schema 3"),
    ],
)
def test_an_older_record_that_contradicts_itself_is_refused(
    tmp_path: Path, place: str, value: object, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        read(tmp_path, changed(in_schema(make_record(), 3), place, value))
    assert str(refused.value).startswith(str(tmp_path / "bad.json"))


def test_how_many_errors_there_are_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\(and 1 more\)"):
        read(tmp_path, changed(changed(make_record(), "seed", -1), "status", "failed"))


@given(st.floats(0, 100), st.floats(-2e-6, 2e-6))
def test_an_average_may_be_off_by_rounding_alone(mean: float, off: float) -> None:
    cells = dict.fromkeys(("0.1", "0.2", "0.3", "0.4", "0.5"), mean)
    stored = min(max(mean + off, 0), 100)
    metrics = {"mAP": cells, "averages": {"0.1:0.5": stored}, "videos": 1, "instances": 1, "detections": 0}
    record = make_record() | {"metrics": {"anet": metrics}, "per_class": [None, [mean] * 5]}
    if abs(stored - mean) < 0.99e-6:
        as_record(record)
    elif abs(stored - mean) > 1.01e-6:
        with pytest.raises(ValueError, match="the mean of its members"):
            as_record(record)


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_a_record_of_each_older_schema_is_read_and_keeps_its_numbers(path: Path) -> None:
    stored = json.loads(path.read_bytes())
    assert f"record-{stored['schema']}" == path.stem
    record = read_record(path)
    new = record.to_json()
    assert record.schema_ == SCHEMA
    headline = stored["headline"]
    # of the numbers alone AP by class under other protocols is gone, and under the headline it is a table
    assert record.ap_by_class() == stored["metrics"][headline].pop("per_class")
    for protocol, metrics in stored["metrics"].items():
        assert new["metrics"][protocol] == {name: one for name, one in metrics.items() if name != "per_class"}
    common = stored.pop("common", None)
    if common:
        assert new["common_localizer"] == {name: one for name, one in common[headline].items() if name != "per_class"}
    else:
        assert new["common_localizer"] is None
    del stored["metrics"], new["metrics"], new["per_class"], new["common_localizer"]
    before, after = flatten(stored), flatten(new)
    renamed = {"method", "title", "id", "digest"} if stored["method"] in RENAMED else set()
    assert {name for name, value in before.items() if after[name] != value} == {"schema"} | renamed
    added = {name: value for name, value in after.items() if name not in before}
    assert added == ADDED[path.stem]


ADDED: dict[str, dict[str, Any]] = {
    "record-1": {
        "ablation": None, "training.weights_of": None, "training.diagnostics": {}, "environment.commit": None,
        "environment.method": None,
    },
    "record-2": {},
    "record-3": {},
}  # fmt: skip


def test_a_renamed_method_has_its_new_name_title_digest_and_id() -> None:
    record = read_record(OLD[2])
    assert (record.method, record.title) == ("facnet-rmgcl-gksa", load_method("facnet-rmgcl-gksa").title)
    assert record.id.startswith("ucf-untrimmed-facnet-rmgcl-gksa-s5-")


def test_titles_of_renamed_methods_are_those_of_their_classes() -> None:
    assert {name: load_method(name).title for name in TITLES} == TITLES
    assert set(TITLES) == set(RENAMED.values()) & set(method_entries())


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
    # numbers survive to the bit, and integers stay integers
    assert canonical_json(json.loads(model.to_bytes())) == canonical_json(model.to_json()) == canonical_json(record)


@given(records, st.sets(st.sampled_from(["ablation", "weights_of", "diagnostics", "commit", "method"])))
def test_migration_fills_changes_nothing_else_and_ends(record: dict[str, Any], lacks: set[str]) -> None:
    def without(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if name not in names}

    old = without(in_schema(record, 1), {"common"} | lacks & {"ablation"}) | {
        "training": without(record["training"], lacks),
        "environment": without(record["environment"], lacks),
    }
    before = copy.deepcopy(old)
    new = migrate(old)
    assert old == before
    assert new["schema"] == SCHEMA
    assert migrate(new) == new
    as_record(new)
    assert {name: new[name] for name in ("metrics", "per_class")} == {
        name: record[name] for name in ("metrics", "per_class")
    }
    for name in ("id", "digest", "artefacts", "recipe", "data"):
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
    records, refused = list_records(ROOT / "results" / "records")
    assert not refused
    new = [record.to_json() for record in [*records, *map(read_record, OLD)]]
    rescored = {path: json.loads(path.read_bytes()) for path in (ROOT / "results" / "rescored").glob("*.json")}
    cost = {path: json.loads(path.read_bytes()) for path in (ROOT / "results").glob("cost.json")}
    for name, values in (
        (f"record-{SCHEMA}", new), ("rescored-1", rescored.values()), ("cost-1", cost.values())
    ):  # fmt: skip
        assert values
        schema = json.loads((SCHEMAS / f"{name}.json").read_bytes())
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        for value in values:
            validator.validate(value)


def test_the_stored_collection_is_as_it_would_be_written() -> None:
    """Files by data set and method, lines sorted by id, today's schema and names."""
    assert STORED
    plan = plan_migration([ROOT / "results" / "records"])
    assert (plan.changed, plan.refused) == ([], [])


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
    for record in list_records(ROOT / "results" / "records")[0]:
        monkeypatch.setattr(run_spec, "version", lambda _, record=record: record.version)
        keys = list(record.scored.mean_ap)
        listed = tuple(map(float, keys))
        tious = next((t for t in (THUMOS_TIOUS, ACTIVITYNET_TIOUS) if [tiou_key(one) for one in t] == keys), listed)
        recipe: Any = SimpleNamespace(model_dump=lambda mode, record=record: record.recipe.to_json())
        spec = run_spec.RunSpec(
            record.method, record.seed, recipe, {}, None, {}, record.data.to_json(), record.headline, tious
        )
        assert (spec.digest, spec.id) == (record.digest, record.id)


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
    records, refused = list_records(tmp_path, ranked=True)
    # the first file by path holds a run; the second that holds it too is the one refused
    assert [record.id for record in records] == sorted(record["id"] for record in good)
    names = [path.name for path, _ in refused]
    assert names == ["a-newer.json", "b-nan.json", "c-120.json", "d-method.json", "e-half.json", "f-twice.json"]
    assert all(str(path) in message for path, message in refused)
    assert list_records(tmp_path / "absent", ranked=True) == ([], [])


def stored(folder: Path, records: dict[str, dict[str, Any]]) -> Path:
    for name, record in records.items():
        as_record(record)
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
    records, refused = list_records(tmp_path, ranked=True)
    assert len(records) == (2 if same else 3)
    if same:
        ((path, message),) = refused
        assert path == tmp_path / "1.json"
        assert re.search(rf"^{path}: seed 0 of the same method, .* is in {tmp_path / '0.json'}\. Remove one", message)
    # a list of runs has them all
    assert len(list_records(tmp_path)[0]) == 3


def test_a_repetition_without_looks_leaves_stored_looks(tmp_path: Path) -> None:
    look = {"epoch": 1, "pseudo_labels": {"main": {"ap": 40.0}}}
    looked, again = make_record() | {"observations": [look]}, make_record()
    again["environment"] = again["environment"] | {"commit": "d" * 40}
    again["training"] = again["training"] | {"weights_of": "another-run"}
    more = looked | {"observations": [look, look | {"epoch": 2}]}
    for made, kept in ((looked, [1]), (again, [1]), (more, [1, 2]), (looked, [1, 2])):
        add_records(tmp_path, [as_record(made)])
        (found,) = list_records(tmp_path)[0]
        assert [one.epoch for one in found.observations] == kept
    # other numbers are of another training, of which these looks say nothing
    again["training"] = again["training"] | {"final_loss": {"total": 0.25}}
    add_records(tmp_path, [as_record(again)])
    (found,) = list_records(tmp_path)[0]
    assert not found.observations


def test_a_seed_of_before_a_protocol_was_added_is_of_the_same_evaluation(tmp_path: Path) -> None:
    record = make_record(seed=1)
    record["metrics"] |= {"segments-best-212": record["metrics"]["anet"]}
    stored(tmp_path, {"0.json": make_record(), "1.json": record})
    records, refused = list_records(tmp_path, ranked=True)
    assert (len(records), refused) == (2, [])


@pytest.mark.parametrize("what", ["a protocol more", "a tIoU less", "an average less", "another headline"])
def test_seeds_of_one_system_are_of_one_evaluation(tmp_path: Path, what: str) -> None:
    record = make_record(seed=1)
    metrics = record["metrics"]["anet"]
    longer = metrics | {"mAP": metrics["mAP"] | {"0.6": 1.0}}
    changes: dict[str, Any] = {
        "a protocol more": {"metrics": {"anet": metrics, "anet-210": metrics}},
        "a tIoU less": {"metrics": {"anet": longer}, "per_class": [[*row, 1.0] for row in record["per_class"]]},
        "an average less": {"metrics": {"anet": metrics, "anet-210": metrics | {"averages": {}}}},
        "another headline": {"metrics": {"anet-210": metrics}, "headline": "anet-210"},
    }
    record |= changes[what]
    stored(tmp_path, {"0.json": make_record(), "1.json": record, "2.json": make_record(method="rmgcl-gksa", seed=1)})
    records, refused = list_records(tmp_path, ranked=True)
    assert [(record.method, record.seed) for record in records] == [("acmnet", 0), ("rmgcl-gksa", 1)]
    ((path, message),) = refused
    assert message.startswith(f"{path}: its protocols or tIoUs are not those of {tmp_path / '0.json'}")


def test_what_has_no_usual_average_is_listed_and_not_ranked(tmp_path: Path) -> None:
    metrics = {"mAP": {"0.5": 12.0}, "averages": {}, "videos": 1, "instances": 1, "detections": 0}
    record = make_record(seed=1) | {"metrics": {"anet": metrics}, "per_class": [None, [12.0]]}
    stored(tmp_path, {"0.json": make_record(), "1.json": record})
    records, ((path, message),) = list_records(tmp_path, ranked=True)
    assert [record.seed for record in records] == [0]
    assert message.startswith(f"{path}: it has none of the usual averages 0.1:0.5, ")
    assert "over its tIoUs 0.5, by which methods are ranked" in message
    assert len(list_records(tmp_path)[0]) == 2


# collections: JSON lines by data set and method


def collected(folder: Path, *records: dict[str, Any]) -> Path:
    add_records(folder, map(as_record, records))
    return folder


def test_records_go_to_one_file_a_data_set_and_method_sorted_by_id(tmp_path: Path) -> None:
    given = [make_record(method, seed) for method in ("wtalc", "acmnet") for seed in (2, 0, 1)]
    collected(tmp_path, *given)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jsonl")) == [
        "data/acmnet.jsonl", "data/wtalc.jsonl",
    ]  # fmt: skip
    lines = (tmp_path / "data" / "acmnet.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in lines] == sorted(one["id"] for one in given[3:])
    records, refused = list_records(tmp_path, ranked=True)
    assert [record.to_json() for record in records] == sorted(given, key=lambda one: (one["method"], one["id"]))
    assert not refused
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")}
    collected(tmp_path, *given)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")} == before


def test_a_bad_line_is_named_with_its_number_and_stays(tmp_path: Path) -> None:
    file = lines_file(tmp_path, as_record(make_record()))
    collected(tmp_path, make_record(seed=0))
    newer = json.dumps(make_record(seed=1) | {"schema": 99}).encode()
    file.write_bytes(file.read_bytes() + newer + b"\n" + newer[:50] + b"\n")
    records, refused = list_records(tmp_path, ranked=True)
    assert [record.seed for record in records] == [0]
    assert [str(place) for place, _ in refused] == [f"{file}:2", f"{file}:3"]
    assert refused[0][1].startswith(f"{file}:2 is of schema 99")
    collected(tmp_path, make_record(seed=2))
    assert sorted(record.seed for record in list_records(tmp_path, ranked=True)[0]) == [0, 2]
    assert {newer, newer[:50]} < set(file.read_bytes().splitlines())


def test_a_run_that_stands_in_two_lines_is_refused_once(tmp_path: Path) -> None:
    file = collected(tmp_path, make_record()) / "data" / "acmnet.jsonl"
    file.write_bytes(file.read_bytes() * 2)
    records, ((place, message),) = list_records(tmp_path)
    assert len(records) == 1
    assert str(place) == f"{file}:2"
    assert message.endswith(f"is stored twice, also in {file}:1. Remove one.")


@pytest.mark.parametrize("place", ["title", "features"])
def test_words_of_the_data_split_no_system(place: str) -> None:
    record = make_record()
    other = changed(record, f"data/{place}", "in other words")
    assert SystemKey.of(as_record(record)) == SystemKey.of(as_record(other))
    for place, value in (("data/width", 9), ("recipe/train/epochs", 9), ("environment/wstal-bench", "1")):
        assert SystemKey.of(as_record(record)) != SystemKey.of(as_record(changed(record, place, value)))
