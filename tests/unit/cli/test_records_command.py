"""`wstal-bench records`: what is listed, which runs agree and why not, what is rewritten."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from harness.cli import records as command
from harness.cli.options import Parser
from harness.io.encoding import pretty_json
from harness.records import collection
from harness.records.collection import add_records
from harness.records.diff import Diff, diff
from harness.records.query import flatten, select
from harness.records.reading import list_records, read_record
from harness.records.schema import SCHEMA, Record, json_schema
from harness.studies.cost import CostFile
from harness.studies.released import Rescored
from tests.helpers.records import as_record, make_record
from wstal.errors import UserError

OLD = Path(__file__).parents[2] / "data" / "record-1.json"


def run(*words: object) -> int:
    parser = Parser()
    command.add(parser.add_subparsers())
    arguments = parser.parse_args(["records", *map(str, words)])
    return int(arguments.handle(arguments))


def save(path: Path, record: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pretty_json(record))
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    row = {"schedule": {}, "row": {"method.gks": False}}
    records = (
        make_record(seed=1, value=30.0),
        make_record(seed=0),
        make_record(method="rmgcl-gksa", ablation=row, overrides={"train.epochs": 9}),
    )
    add_records(tmp_path / "results" / "records", map(as_record, records))
    return tmp_path / "results"


# query


def test_query_lists_one_row_a_record(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("query", "--results", results, "--json") == 0
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert [row.pop("id").rpartition("-")[0] for row in rows] == [
        "data-acmnet-s0",
        "data-acmnet-s1",
        "data-rmgcl-gksa-s0",
    ]
    assert rows[1] == {
        "data": "data", "method": "acmnet", "row": "", "overrides": "", "seed": 1, "mean": 26.0, "commit": "c" * 10,
    }  # fmt: skip
    assert (rows[2]["row"], rows[2]["overrides"]) == ("method.gks=False", "train.epochs=9")
    assert "Done: 3 of 3 records" in said.err


def test_query_takes_tests_and_fields(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("query", "--results", results, "--where", "seed=0", "recipe.train.epochs=3.0", "--fields")
    assert run(*words, "method,metrics.anet.mAP.0.5,mean") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["method", "metrics.anet.mAP.0.5", "mean"],
        ["----------", "----------------------", "------"],
        ["acmnet", "12", "16"],
        ["rmgcl-gksa", "12", "16"],
    ]


@pytest.mark.parametrize(
    ("where", "methods"),
    [
        (["synthetic=false"], ["acmnet", "acmnet", "rmgcl-gksa"]),
        (["synthetic=0"], []),
        (["row=method.gks=False"], ["rmgcl-gksa"]),
        (["row="], ["acmnet", "acmnet"]),
        (["ablation.row.method.gks=false"], ["rmgcl-gksa"]),
        (["mean=26"], ["acmnet"]),
        (["method=acmnet", "seed=1"], ["acmnet"]),
        (["method=acmnet", "seed=7"], []),
    ],
)
def test_a_test_compares_values_not_their_spelling(results: Path, where: list[str], methods: list[str]) -> None:
    stored, _ = list_records(results / "records")
    assert [row["method"] for row in select(stored, where)] == methods


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--where", "sede=0"), r"'sede'; did you mean 'seed'\?"),
        (("--fields", "id,recipe.train.epoch"), r"did you mean 'recipe\.train\.epochs'\?"),
        (("--where", "seed"), "FIELD=VALUE"),
        (("--store", "absent"), "absent/runs is no folder"),
    ],
)
def test_query_refuses_what_it_does_not_know(results: Path, words: tuple[str, ...], complaint: str) -> None:
    place = () if "--store" in words else ("--results", results)
    with pytest.raises(UserError, match=complaint):
        run("query", *place, *words)


def test_query_lists_the_good_and_names_the_bad(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = save(results / "records" / "bad.json", make_record(seed=9) | {"schema": 99})
    assert run("query", "--results", results, "--json") == 2
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 3
    assert f"error: {bad} is of schema 99, written by a newer wstal-bench" in said.err
    assert "1 refused" in said.err


def test_query_reads_a_store_and_only_its_finished_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record()
    save(tmp_path / "runs" / record["id"] / "record.json", record)
    save(tmp_path / "runs" / record["id"] / "history.json", {})
    save(tmp_path / "partial" / "other" / "record.json", make_record(seed=1))
    assert run("query", "--store", tmp_path, "--fields", "id", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"id": record["id"]}]


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("ab", min_size=1), inner), max_leaves=9))
def test_flattening_loses_no_value(tree: Any) -> None:
    def leaves(value: Any, place: tuple[str, ...] = ()) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            return {".".join(place): value}
        return {name: leaf for key, inner in value.items() for name, leaf in leaves(inner, (*place, key)).items()}

    if isinstance(tree, dict):
        assert flatten(tree) == (leaves(tree) if tree else {})


# diff


def moved(record: dict[str, Any], points: float) -> dict[str, Any]:
    """The record of a second machine: every number of one class is moved, and so are the files behind it."""
    record = copy.deepcopy(record)
    metrics = record["metrics"]["anet"]
    record["per_class"][1][4] += 2 * points
    metrics["mAP"]["0.5"] += points
    metrics["averages"]["0.1:0.5"] += points / 5
    record["artefacts"] |= {"scores.safetensors": "1" * 64, "detections.json.gz": "2" * 64}
    return record


def compared(first: dict[str, Any], second: dict[str, Any]) -> Diff:
    return diff(as_record(first), as_record(second))


def test_equal_runs_agree_whatever_computed_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record()
    other = record | {"environment": record["environment"] | {"threads": 4, "commit": None}}
    paths = save(tmp_path / "a.json", record), save(tmp_path / "b.json", other)
    assert run("diff", *paths) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "agree: all numbers and files are equal"
    assert run("diff", *paths, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["agree"], said["cause"], said["metrics"]) == (True, "", [])
    assert said["verdict"] == "agree: all numbers and files are equal"
    assert said["environment"] == {"threads": [1, 4], "commit": ["c" * 40, None]}


def test_the_largest_difference_is_found_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record()
    other = moved(record, -1.5)
    other["environment"]["threads"] = 2
    paths = save(tmp_path / "a.json", record), save(tmp_path / "b.json", other)
    assert run("diff", *paths, "--json") == 5
    said = json.loads(capsys.readouterr().out)
    assert said["metrics"] == [
        {
            "protocol": "anet",
            "mean_ap": -1.5,
            "tiou": "0.5",
            "ap": -3.0,
            "label": "Run",
            "label_tiou": "0.5",
            "note": "",
        }
    ]
    assert list(said["artefacts"]) == ["scores.safetensors", "detections.json.gz"]
    assert said["identity"] == {}
    assert said["cause"] == "different thread count: bits depend on it (threads); scores.safetensors differs first"
    assert run("diff", *paths) == 5
    out = capsys.readouterr().out
    assert "-1.5" in out
    assert "Run 0.5" in out
    assert out.splitlines()[-1] == f"differ: {said['cause']}"


@pytest.mark.parametrize(
    ("place", "value", "cause"),
    [
        ((), None, "nothing on record explains it"),
        (("environment", "commit"), "d" * 40, "different code"),
        (("environment", "packages"), {"torch": "3"}, r"different package versions \(packages\.torch\)"),
        (("environment", "cpu"), "z", "different processor"),
        (("environment", "wstal-bench"), "1", "not one run twice: they differ in wstal-bench"),
        (("recipe", "train"), {"epochs": 4}, r"not one run twice: they differ in recipe\.train\.epochs"),
        (("data", "width"), 9, r"they differ in data\.width"),
        (("data", "title"), "words decide no number", "nothing on record explains it"),
    ],
)
def test_the_likely_cause(place: tuple[str, ...], value: object, cause: str) -> None:
    other = moved(make_record(), 0.1)
    if place:
        other[place[0]][place[1]] = value
    found = compared(make_record(), other)
    assert not found.agree
    assert re.search(cause, found.cause)


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (("recipe", "train"), {"epochs": 4}, r"recipe\.train\.epochs"),
        (("environment", "wstal-bench"), "1", "wstal-bench"),
        (("data", "labels"), "annotations", r"data\.labels"),
    ],
)
def test_two_experiments_with_equal_numbers_do_not_agree(
    place: tuple[str, str], value: object, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = make_record()
    other = copy.deepcopy(record)
    other[place[0]][place[1]] = value
    assert run("diff", save(tmp_path / "a.json", record), save(tmp_path / "b.json", other)) == 5
    said = capsys.readouterr()
    assert re.match(
        rf"differ: these are two runs, not one run twice: they differ in {field}", said.out.splitlines()[-1]
    )
    assert said.err.rstrip().endswith("differ")


def test_equal_detections_with_other_numbers_are_the_evaluators() -> None:
    record = make_record()
    other = moved(record, 0.1) | {"artefacts": record["artefacts"]}
    assert compared(record, other).cause.startswith("the detections are equal and the numbers are not")
    more = copy.deepcopy(record)
    more["metrics"]["anet-210"] = more["metrics"]["anet"]
    (gap,) = compared(record, more).metrics
    assert (gap.protocol, gap.mean_ap, gap.note) == ("anet-210", None, "only in the second run")
    fewer = copy.deepcopy(record)
    fewer["metrics"]["anet"]["detections"] = 8
    (gap,) = compared(record, fewer).metrics
    assert (gap.mean_ap, gap.note) == (0.0, "detections 9 | 8")


def test_what_an_older_version_did_not_write_is_no_disagreement() -> None:
    record = make_record()
    newer = copy.deepcopy(record)
    newer["artefacts"]["flags.safetensors"] = "3" * 64
    newer["training"]["final_loss"]["contrast"] = 0.1
    found = compared(record, newer)
    assert found.agree
    assert found.artefacts == {"flags.safetensors": ("absent", "3" * 64)}
    alone = "training.final_loss.contrast".removeprefix("training.")
    assert found.verdict == (
        f"agree: every number and file that both have is equal; only B has {alone}, flags.safetensors"
    )
    assert compared(newer, record).verdict.endswith(f"; only A has {alone}, flags.safetensors")
    assert compared(record, record).verdict == "agree: all numbers and files are equal"
    newer["training"]["final_loss"]["total"] = 0.6
    assert not compared(record, newer).agree


def test_a_run_is_named_by_file_folder_or_id(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = make_record(seed=1, value=30.0)
    folder = save(tmp_path / "store" / "runs" / record["id"] / "record.json", record).parent
    place = ("--results", results, "--store", tmp_path / "store")
    file = results / "records" / "data" / "acmnet.jsonl"
    for name in (folder, folder / "record.json", record["id"]):
        for names in ((file, name), (name, file)):
            assert run("diff", *names, *place) == 0
            assert f"{file}:2" in capsys.readouterr().err
    assert run("diff", record["id"], record["id"], "--results", tmp_path, "--store", tmp_path / "store") == 0
    assert str(folder / "record.json") in capsys.readouterr().err
    only = results / "records" / "data" / "rmgcl-gksa.jsonl"
    assert run("diff", only, only, *place) == 0
    with pytest.raises(UserError, match=rf"{file} holds 2 records, none of them data-rmgcl.*Give the id of one"):
        run("diff", only, file, *place)
    with pytest.raises(UserError, match=r"acmnet\.jsonl holds 2 records\. Give the id of one"):
        run("diff", file, file, *place)
    with pytest.raises(UserError, match=rf"did you mean '{record['id']}'\?"):
        run("diff", file, record["id"][:-1], *place)
    with pytest.raises(UserError, match="newer wstal-bench"):
        run("diff", file, save(tmp_path / "new.json", record | {"schema": 99}))


# migrate


def test_migrate_collects_older_files_once(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = results / "records" / "ucf-untrimmed" / "old.json"
    old.parent.mkdir()
    old.write_bytes(OLD.read_bytes())
    target = old.parent / "acmnet.jsonl"
    untouched = {path: path.read_bytes() for path in (results / "records" / "data").iterdir()}
    expected = read_record(old)
    assert run("migrate", results / "records", "--check") == 2
    assert (old.read_bytes(), target.exists()) == (OLD.read_bytes(), False)
    assert capsys.readouterr().out == f"{target}\n{old}\n"
    assert run("migrate", results / "records", old) == 0
    assert capsys.readouterr().out == f"{target}\n{old}\n"
    assert not old.exists()
    assert read_record(target) == expected
    written = target.read_bytes()
    for check in ((), ("--check",)):
        assert run("migrate", results / "records", *check) == 0
        assert capsys.readouterr().out == ""
    assert target.read_bytes() == written
    assert all(path.read_bytes() == content for path, content in untouched.items())


def test_a_migration_that_is_killed_loses_nothing_and_goes_on(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = results / "records" / "data"
    before = list_records(results / "records")[0]
    for record in before:
        save(folder / f"{record.id}.json", record.to_json())
    for file in folder.glob("*.jsonl"):
        file.unlink()

    def killed(paths: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(collection, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            run("migrate", results / "records")
    assert len(list(folder.iterdir())) == 3 + 2
    assert list_records(results / "records")[0] == before
    assert run("migrate", results / "records") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["acmnet.jsonl", "rmgcl-gksa.jsonl"]
    assert list_records(results / "records") == (before, [])


def test_migrate_names_the_bad_and_rewrites_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = json.loads(OLD.read_bytes())
    good = save(tmp_path / "good.json", old)
    bad = save(tmp_path / "bad.json", old | {"title": 5})
    before = bad.read_bytes()
    assert run("migrate", tmp_path, tmp_path / "absent.json") == 2
    said = capsys.readouterr()
    assert not good.exists()
    assert read_record(tmp_path / "ucf-untrimmed" / "acmnet.jsonl") == read_record(OLD)
    assert bad.read_bytes() == before
    assert f"error: {bad}: title is 5" in said.err
    assert f"error: Cannot read {tmp_path / 'absent.json'}" in said.err


def test_a_single_file_is_rewritten_in_place(tmp_path: Path) -> None:
    file = save(tmp_path / "mine.json", json.loads(OLD.read_bytes()))
    expected = read_record(file)
    assert run("migrate", file) == 0
    assert file.read_bytes() == expected.to_bytes(2)


def test_migrate_takes_a_run_and_leaves_its_other_files(tmp_path: Path) -> None:
    old = json.loads(OLD.read_bytes())
    folder = save(tmp_path / "runs" / old["id"] / "record.json", old).parent
    save(folder / "history.json", {"schema": 1})
    assert run("migrate", folder) == 0
    assert json.loads((folder / "record.json").read_bytes())["schema"] == SCHEMA
    assert json.loads((folder / "history.json").read_bytes()) == {"schema": 1}


def test_runs_of_a_renamed_method_move_and_runs_that_took_their_weights_follow(tmp_path: Path) -> None:
    """Of an id another run's record alone says what it has become."""
    donor = json.loads(OLD.with_name("record-3.json").read_bytes())
    digest = donor["digest"][::-1]
    taker = donor | {"seed": 6, "digest": digest, "id": f"ucf-untrimmed-facnet-ours-s6-{digest[:10]}"}
    taker["training"] = donor["training"] | {"weights_of": donor["id"]}
    runs = tmp_path / "runs"
    for record in (donor, taker):
        save(runs / record["id"] / "record.json", record)
    assert run("migrate", tmp_path) == 0
    records = [read_record(file) for file in sorted(runs.glob("*/record.json"))]
    assert {path.name for path in runs.iterdir()} == {record.id for record in records}
    assert all(record.id.startswith("ucf-untrimmed-facnet-rmgcl-gksa-s") for record in records)
    (taken,) = [record for record in records if record.training.weights_of]
    assert taken.training.weights_of in {record.id for record in records} - {taken.id}


def test_two_different_records_of_one_run_are_refused_and_stay(tmp_path: Path) -> None:
    first = save(tmp_path / "a.json", make_record())
    again = save(tmp_path / "b.json", make_record() | {"title": "Another"})
    assert run("migrate", tmp_path) == 2
    assert [path.exists() for path in (first, again, tmp_path / "data" / "acmnet.jsonl")] == [False, True, True]


@pytest.mark.parametrize(("kind", "model"), [("record", Record), ("rescored", Rescored), ("cost", CostFile)])
def test_schema_prints_a_schema(kind: str, model: type[BaseModel], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", kind) == 0
    assert json.loads(capsys.readouterr().out) == json_schema(model)


def test_declaring_the_command_imports_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "pydantic", "numpy")
    code = f"import sys, harness.cli.records; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
