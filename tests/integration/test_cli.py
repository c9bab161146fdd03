"""The command line as a user meets it: results on stdout, talk on stderr, one message and the right code on errors."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import safetensors.numpy

from harness.cli.main import main
from harness.records.files import DETECTIONS
from harness.records.matches import read_matches
from harness.records.run_folder import FinishedRun
from harness.runs.plans import find_plan
from harness.runs.request import RunRequest
from harness.sweeps.jobs import Job
from tests.helpers.small_data import write_tiny
from wstal.errors import RunError
from wstal.evaluation import class_average_precision

QUICK = ["--set", "train.epochs=12", "train.temporal_length=32", "train.learning_rate=3e-3", "train.batch_size=3"]
COMMANDS: tuple[list[str], ...] = (
    [], ["reproduce"], ["run"], ["tune"], ["predict"], ["evaluate"], ["data"], ["data", "verify"], ["data", "convert"],
    ["data", "extract"], ["ls"], ["leaderboard"], ["sweep"], ["compare"], ["paper"], ["paper", "compare"],
    ["paper", "audit"], ["paper", "cost"],
    ["paper", "robustness"], ["debug"], ["debug", "determinism"], ["debug", "sensitivity"], ["debug", "replay"],
    ["records", "query"], ["records", "diff"], ["records", "migrate"], ["records", "gc"],
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def done(tiny: Path, store: Path) -> dict[str, Any]:
    """A finished run on the tiny data set, from a fresh interpreter."""
    command = [
        "-m",
        "harness",
        "run",
        "--method",
        "acmnet",
        "--data",
        str(tiny),
        "--store",
        str(store),
        "--threads",
        "1",
    ]
    process = subprocess.run([sys.executable, *command, *QUICK, "--json"], capture_output=True, text=True, check=True)
    return json.loads(process.stdout)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches_and_does_not_import_torch(command: list[str]) -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        f"try:\n    main({[*command, '--help']!r})\n"
        "except SystemExit as done:\n    assert done.code == 0\n"
        "heavy = {'torch', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)\nassert not heavy, heavy"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "usage: wstal-bench" in shown
    assert command == [] or "example" in shown or command == ["data"]


def test_the_last_line_of_a_run_says_where_its_files_are(tiny: Path, tmp_path: Path) -> None:
    command = ["-m", "harness", "run", "--method", "whole-video", "--data", str(tiny), "--store", str(tmp_path), *QUICK]
    shown = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
    table, last = shown.stdout.decode().splitlines()[-2:]
    assert table.split()[0] == "anet"
    assert last.startswith(f"Done: {tmp_path}/runs/tiny-whole-video-s0-")


def test_run_learns_and_prints_its_record(done: dict[str, Any], tiny: Path) -> None:
    assert done["status"] == "done"
    assert not done["reused"]
    assert not done["synthetic"]
    assert done["metrics"]["anet"]["averages"]["0.1:0.7"] > 30
    assert done["metrics"]["anet"]["videos"] == 5
    assert done["metrics"]["anet"]["instances"] == 10
    folder = Path(done["run"])
    assert json.loads((folder / "record.json").read_text())["id"] == done["id"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "detections.json.gz", "diagnostics.svg", "flags.safetensors", "ground_truth.json", "history.json",
        "manifest.json", "record.json", "scores.safetensors", "weights.safetensors",
    ]  # fmt: skip


def test_the_flags_of_a_run_give_its_numbers(done: dict[str, Any], tiny: Path) -> None:
    stored = read_matches(FinishedRun.open(Path(done["run"])))
    ap = class_average_precision(stored.flags, len(stored.classes), stored.protocol)
    assert (100 * np.nanmean(ap, axis=0)).tolist() == pytest.approx(list(done["metrics"]["anet"]["mAP"].values()))
    assert stored.evaluated == tuple(sorted(stored.videos))


def test_a_finished_run_is_not_repeated(cli, done: dict[str, Any], tiny: Path, store: Path) -> None:
    code, out, err = cli("run", "--method", "acmnet", "--data", tiny, "--store", store, *QUICK, "--json")
    assert code == 0
    assert json.loads(out) == done | {"reused": True}
    assert "Was done already" in err


def test_the_same_run_elsewhere_has_the_same_bits(cli, done: dict[str, Any], tiny: Path, tmp_path: Path) -> None:
    code, out, _ = cli(
        "run", "--method", "acmnet", "--data", tiny, "--store", tmp_path, "--threads", 1, *QUICK, "--json"
    )
    assert code == 0
    again = json.loads(out)
    for volatile in ("run", "reused", "environment"):
        again.pop(volatile)
        assert volatile in done
    assert again == {name: value for name, value in done.items() if name in again}


def test_other_settings_of_the_localizer_need_no_training(cli, done: dict[str, Any], tiny: Path, store: Path) -> None:
    code, out, err = cli(
        "run", "--method", "acmnet", "--data", tiny, "--store", store, "--threads", 1, *QUICK,
        "--set", "localizer.nms.threshold=0.3", "--json",
    )  # fmt: skip
    assert code == 0
    other = json.loads(out)
    assert other["id"] != done["id"]
    assert " train " not in err
    assert other["artefacts"]["weights.safetensors"] == done["artefacts"]["weights.safetensors"]
    assert other["artefacts"]["history.json"] == done["artefacts"]["history.json"]
    assert other["artefacts"]["detections.json.gz"] != done["artefacts"]["detections.json.gz"]
    assert other["training"]["weights_of"] == done["id"]
    assert done["training"]["weights_of"] is None


def test_another_seed_is_another_run(cli, done: dict[str, Any], tiny: Path, store: Path) -> None:
    _, out, _ = cli("run", "--method", "acmnet", "--seed", 1, "--data", tiny, "--store", store, *QUICK, "--json")
    other = json.loads(out)
    assert other["id"] != done["id"]
    assert other["artefacts"]["weights.safetensors"] != done["artefacts"]["weights.safetensors"]


def test_detections_of_a_run_evaluate_to_its_own_numbers(cli, done: dict[str, Any], tiny: Path) -> None:
    code, out, _ = cli(
        "evaluate", Path(done["run"]) / "detections.json.gz", "--annotations", tiny / "annotations.json", "--json"
    )
    assert code == 0
    (found,) = json.loads(out).values()
    by_class = found.pop("per_class")
    assert found == done["metrics"]["anet"]
    assert [by_class[name] and list(by_class[name].values()) for name in done["classes"]] == done["per_class"]


def test_all_protocols_are_those_that_apply_and_the_others_are_said(cli, tiny: Path, tmp_path: Path) -> None:
    file = detection_file(tmp_path / "d.json", {"test_000": [GOOD]})
    code, out, err = cli("evaluate", file, "--annotations", tiny, "--protocol", "all", "--json")
    assert (code, list(json.loads(out))) == (0, ["anet"])
    assert "anet-210, " in err
    assert "left out: it is defined on THUMOS14's videos only" in err
    assert "left out" not in cli("evaluate", file, "--annotations", tiny)[2]


def test_localize_on_the_test_videos_repeats_the_runs_detections(cli, done, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "detections.json.gz"
    assert cli("predict", done["run"], "--data", tiny, "--subset", "test", "--out", out)[0] == 0
    assert out.read_bytes() == (Path(done["run"]) / "detections.json.gz").read_bytes()


def test_localize_refuses_another_kind_of_file_before_it_works(cli, done, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "detections.csv"
    code, _, err = cli("predict", done["run"], "--data", tiny, "--subset", "test", "--out", out)
    assert code == 2
    assert "ends in .json or .json.gz" in err
    assert not out.exists()


def test_localize_needs_a_test_subset_only(cli, done: dict[str, Any], tiny: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    shutil.copytree(tiny, alone)
    shutil.rmtree(alone / "features" / "train")
    out = tmp_path / "detections.json"
    assert cli("predict", done["run"], "--data", alone, "--subset", "test", "--out", out)[0] == 0
    assert set(json.loads(out.read_text())["results"]) <= {f"test_{n:03d}" for n in range(5)}


def test_reproduce_trains_publishes_and_renders(tiny: Path, tmp_path: Path) -> None:
    def reproduce(*what: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable, "-m", "harness", "reproduce", "--data", str(tiny), *what,
            "--store", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), *QUICK,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, check=True)

    def written() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()}

    first = reproduce("--methods", "acmnet", "--seeds", "0-1")
    assert "Done: 2 runs" in first.stderr
    page = tmp_path / "results" / "leaderboards" / "tiny.md"
    assert str(page) in first.stderr
    assert re.search(r"^1 +acmnet +\d+\.\d", first.stdout, re.MULTILINE)
    assert re.search(r"^\[1/2\] acmnet seed \d \d+\.\d mAP, about .* left$", first.stderr, re.MULTILINE)
    assert re.search(r"^\[2/2\] acmnet seed \d \d+\.\d mAP$", first.stderr, re.MULTILINE)
    before = written()
    reproduce("--methods", "acmnet", "--seeds", "0-1")
    assert before == written()

    # one seed of a table; its baseline is trained by the schedule of ours, so not by ACM-Net's run that is there
    second = reproduce("--table", "V", "--seeds", "0")
    assert "Done: 4 runs" in second.stderr
    ablations = tmp_path / "results" / "leaderboards" / "tiny-ablations.md"
    assert str(ablations) in second.stderr
    assert "V/robust" in second.stdout
    assert len(list((tmp_path / "runs" / "runs").iterdir())) == 2 + 4
    table = ablations.read_text().split("## Table V:")[1].split("## ")[0]
    assert table.count("not run") == 0
    assert len([line for line in table.splitlines() if line.startswith("| +")]) == 3
    assert before[page] == page.read_bytes()

    assert main(["leaderboard", "--check", "--results", str(tmp_path / "results")]) == 0
    page.write_text("edited")
    assert main(["leaderboard", "--check", "--results", str(tmp_path / "results")]) == 2


def test_the_demo_has_one_seed_and_data_of_ones_own_have_three(tiny: Path, tmp_path: Path) -> None:
    def planned(*what: str) -> list[RunRequest]:
        jobs: list[Job] = []

        def keep(found: Sequence[Job], at_once: int, threads: int) -> list[Any]:
            jobs.extend(found)
            raise RunError("enough")

        with mock.patch("harness.sweeps.sweep.run_jobs", keep):
            assert main(["reproduce", *what, "--store", str(tmp_path)]) == 4
        return [job.request for job in jobs]

    demo = planned("--methods", "acmnet", "basnet")
    assert [(one.method, one.seed, one.overrides) for one in demo] == [("acmnet", 0, ()), ("basnet", 0, ())]
    rows = planned("--table", "V")
    assert [(one.row, one.seed) for one in rows] == [(f"V/{row.id}", 0) for row in find_plan("V").rows]
    assert len(planned("--methods", "acmnet", "--data", str(tiny))) == 3
    given = planned("--methods", "acmnet", "--seeds", "1,2", "--set", "train.epochs=7")
    assert [one.model_copy(update={"seed": 1}) for one in given] == given[:1] * 2
    assert given[0].overrides == ("train.epochs=7",)
    # an option of an earlier version, which does nothing now
    assert planned("--methods", "acmnet", "basnet", "--profile", "full") == demo


def test_two_streams_are_told_apart_and_localized_twice(cli, tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "two"
    shutil.copytree(tiny, data)
    for file in sorted((data / "features").rglob("*.npy")):
        (data / "features" / file.parts[-3] / "flow").mkdir(exist_ok=True)
        np.save(data / "features" / file.parts[-3] / "flow" / file.name, np.load(file)[:, :12])
    facts = (data / "dataset.toml").read_text().replace('{ name = "rgb" }', '{ name = "rgb" }, { name = "flow" }')
    (data / "dataset.toml").write_text(facts)
    run = (
        "run",
        "--method",
        "facnet",
        "--data",
        data,
        "--store",
        tmp_path / "runs",
        "--set",
        "train.epochs=1",
        "--json",
    )
    code, out, _ = cli(*run)
    assert code == 0
    record = json.loads(out)
    assert record["recipe"]["method"]["streams"] == [16, 12]
    assert record["recipe"]["train"]["accumulate"] == 10
    assert record["common_localizer"]["mAP"].keys() == record["metrics"][record["headline"]]["mAP"].keys()
    stored = safetensors.numpy.load_file(Path(record["run"]) / "scores.safetensors")
    assert {"test_000/stream0/cas", "test_000/stream1/cas", "test_000/class_scores/stream1"} <= stored.keys()
    # scored again from what was stored: the widths come from the record
    again = tmp_path / "again.json"
    assert cli("predict", record["run"], "--data", data, "--subset", "test", "--out", again)[0] == 0
    assert json.loads(again.read_text()) == json.loads(gzip.decompress((Path(record["run"]) / DETECTIONS).read_bytes()))
    one = cli("run", "--method", "facnet", "--data", data, "--streams", "flow", *run[5:-1], "--json")
    assert json.loads(one[1])["recipe"]["method"]["streams"] == [12]


def test_methods_that_take_videos_whole_want_them_one_at_a_time(cli, tiny: Path, tmp_path: Path) -> None:
    several = ("run", "--method", "rskp", "--data", tiny, "--store", tmp_path, "--set", "train.epochs=1")
    code, _, err = cli(*several, "train.batch_size=4")
    assert code == 2
    assert "train.batch_size=1" in err
    assert not list((tmp_path / "runs").glob("*"))


def test_a_row_is_run_by_its_name(cli, tiny: Path, tmp_path: Path) -> None:
    code, out, _ = cli("run", "--row", "VI/k_means", "--data", tiny, "--store", tmp_path, *QUICK, "--json")
    assert code == 0
    record = json.loads(out)
    assert record["method"] == "rmgcl-gksa"
    assert record["recipe"]["method"]["summary"]["kind"] == "k_means"
    assert record["ablation"]["row"] == {"method.summary.kind": "k_means"}
    assert cli("run", "--row", "VI/kmeans", "--data", tiny, "--store", tmp_path)[0] == 2
    code, out, _ = cli("ls", "rows", "--json")
    assert code == 0
    assert "table_VI/k_means" in [row["row"] for row in json.loads(out)]


def test_a_step_that_is_not_finite_is_kept_and_replayed(cli, tiny: Path, tmp_path: Path) -> None:
    code, _, err = cli(
        "run", "--method", "acmnet", "--data", tiny, "--store", tmp_path, "--set", "train.learning_rate=1e37",
        "train.temporal_length=32", "train.epochs=3",
    )  # fmt: skip
    assert code == 4
    assert re.search(r"error: The loss of acmnet is not finite in epoch \d, step \d .*videos train_", err)
    (step,) = tmp_path.glob("partial/*/failed-step.safetensors")
    assert str(step) in err
    code, out, err = cli("debug", "replay", step)
    assert code == 0
    assert re.search(r"^total\t(nan|inf)$", out, re.MULTILINE)
    assert "Done: " in err
    assert cli("debug", "replay", tiny / "annotations.json")[0] == 2


def test_held_out_scores_training_videos_only(cli, tiny: Path, tmp_path: Path) -> None:
    without_test = tmp_path / "data"
    shutil.copytree(tiny, without_test)
    shutil.rmtree(without_test / "features" / "test")
    code, out, _ = cli(
        "run", "--method", "acmnet", "--data", without_test, "--held-out", 0.34, "--store", tmp_path / "s", *QUICK,
        "--json",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["data"]["name"] == "tiny-held-out"
    assert json.loads(out)["metrics"]["anet"]["videos"] == 3


Change = Callable[[list[dict[str, Any]]], None]


def to_itself(annotations: list[dict[str, Any]]) -> None:
    """Leave all instances as they are."""


def to_other_times(annotations: list[dict[str, Any]]) -> None:
    for instance in annotations:
        instance["segment"] = [0.001, 0.002]


def to_twice_as_many(annotations: list[dict[str, Any]]) -> None:
    annotations += annotations


@pytest.fixture
def weights(cli, tmp_path: Path, tiny: Path) -> Callable[[str, Change], str]:
    """Digest of the weights that a method has after training with changed instances of the training videos."""

    def train(method: str, change: Change) -> str:
        data = tmp_path / f"{method}-{change.__name__}"
        shutil.copytree(tiny, data)
        annotations = json.loads((data / "annotations.json").read_text())
        for video in annotations["database"].values():
            if video["subset"] == "train":
                change(video["annotations"])
        (data / "annotations.json").write_text(json.dumps(annotations))
        where = ["--data", data, "--store", tmp_path / "s", "--threads", 1]
        _, out, _ = cli("run", "--method", method, *where, *QUICK, "--json")
        return str(json.loads(out)["artefacts"]["weights.safetensors"])

    return train


def test_poisoned_training_segments_change_no_weight(done: dict[str, Any], weights) -> None:
    assert weights("acmnet", to_other_times) == done["artefacts"]["weights.safetensors"]


def test_counts_of_training_instances_change_no_weight_of_a_weak_method(done: dict[str, Any], weights) -> None:
    assert weights("acmnet", to_twice_as_many) == done["artefacts"]["weights.safetensors"]


def test_a_method_with_counts_reads_these_but_no_times(weights) -> None:
    own = weights("threecnet", to_itself)
    assert weights("threecnet", to_other_times) == own
    assert weights("threecnet", to_twice_as_many) != own


@pytest.mark.parametrize("what", ["options", "keys"])
def test_every_option_and_key_says_what_it_means(cli, what: str) -> None:
    code, out, _ = cli("ls", what)
    rows = json.loads(cli("ls", what, "--json")[1])
    assert code == 0
    assert all(row["meaning"] or row["option"] in ("train.epochs",) for row in rows)
    assert ("train.epochs" in out) == (what == "options")
    assert ("snippet_frames" in out) == (what == "keys")


@pytest.mark.parametrize("what", ["methods", "datasets", "protocols", "runs"])
def test_ls_lists_as_table_and_json(cli, done: dict[str, Any], store: Path, what: str) -> None:
    code, out, _ = cli("ls", what, "--store", store)
    rows = json.loads(cli("ls", what, "--store", store, "--json")[1])
    assert code == 0
    assert rows
    assert all(str(value) in out for row in rows for value in row.values())


def break_truncated(data: Path) -> None:
    path = data / "features/train/rgb/train_000.npy"
    path.write_bytes(path.read_bytes()[:-10])


def break_nan(data: Path) -> None:
    path = data / "features/train/rgb/train_001.npy"
    features = np.load(path)
    features[3, 2] = np.nan
    np.save(path, features)


def break_test(data: Path) -> None:
    path = data / "features/test/rgb/test_002.npy"
    features = np.load(path)
    features[-1, 0] = np.inf
    np.save(path, features)


def break_width(data: Path) -> None:
    path = data / "features/train/rgb/train_002.npy"
    np.save(path, np.load(path)[:, :-1])


def break_missing(data: Path) -> None:
    (data / "features/train/rgb/train_003.npy").unlink()


def break_lengths(data: Path) -> None:
    shutil.copytree(data / "features/train/rgb", data / "features/train/flow")
    shutil.copytree(data / "features/test/rgb", data / "features/test/flow")
    (data / "dataset.toml").write_text(
        (data / "dataset.toml").read_text().replace('[{ name = "rgb" }]', '[{ name = "rgb" }, { name = "flow" }]')
    )
    path = data / "features/train/flow/train_004.npy"
    np.save(path, np.load(path)[:-1])


def edit_annotations(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(data: Path) -> None:
        content = json.loads((data / "annotations.json").read_text())
        change(content)
        (data / "annotations.json").write_text(json.dumps(content))

    return edit


def segment(start: float, end: float) -> Callable[[Path], None]:
    return edit_annotations(lambda c: c["database"]["train_000"]["annotations"][0].update(segment=[start, end]))


def duplicate(data: Path) -> None:
    text = (data / "annotations.json").read_text()
    (data / "annotations.json").write_text(text.replace('"train_001"', '"train_000"'))


BAD_DATA: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "truncated": (break_truncated, 2, "train_000.npy"),
    "nan": (break_nan, 2, "train_001"),
    "nan in a test video": (break_test, 2, "test_002"),
    "width": (break_width, 2, "train_002.npy"),
    "missing": (break_missing, 3, "train_003"),
    "lengths": (break_lengths, 2, "train_004"),
    "reversed segment": (segment(4, 3), 2, "train_000"),
    "infinite segment": (segment(0, float("inf")), 2, "train_000"),
    "duplicate": (duplicate, 2, "train_000"),
    "not ActivityNet": (edit_annotations(lambda c: c.pop("database")), 2, "database"),
    "cut JSON": (lambda d: (d / "annotations.json").write_text('{"database": {'), 2, "annotations.json"),
    "no annotations": (lambda d: (d / "annotations.json").unlink(), 3, "annotations"),
    "no features": (lambda d: shutil.rmtree(d / "features"), 3, "No .npy feature files"),
    "unknown key": (lambda d: (d / "dataset.toml").write_text("nmae = 'x'"), 2, "nmae"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_is_one_message_and_leaves_nothing(cli, tiny: Path, tmp_path: Path, case: str) -> None:
    damage, code, message = BAD_DATA[case]
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    damage(data)
    got, out, err = cli("run", "--method", "acmnet", "--data", data, "--store", tmp_path / "s", *QUICK, "--json")
    assert (got, out) == (code, "")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    # found before the first epoch, with nothing begun
    assert "train 1/" not in err
    assert not (tmp_path / "s" / "runs").exists()
    assert not (tmp_path / "s" / "partial").exists()
    assert not list((tmp_path / "s").rglob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--method", "acmnett"], 2, "did you mean 'acmnet'"),
        (["--method", "acmnet", "--set", "train.epoch=3"], 2, "did you mean 'epochs'"),
        (["--method", "acmnet", "--seed", "-1"], 2, "seed"),
        (["--method", "acmnet", "--device", "abacus"], 2, "Unknown device"),
        (["--method", "acmnet", "--descriptor", "thumos15"], 2, "thumos14"),
    ],
)
def test_bad_options_of_run(cli, tiny: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    got, out, err = cli("run", "--data", tiny, "--store", tmp_path / "s", *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert not (tmp_path / "s" / "runs").exists()


def test_a_store_that_cannot_be_written(cli, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = cli("run", "--method", "acmnet", "--data", tiny, "--store", tmp_path / "file", *QUICK)
    assert code == 4
    assert "Cannot write" in err


def detection_file(path: Path, rows: object) -> Path:
    path.write_text(json.dumps({"results": rows}))
    return path


GOOD = {"label": "Jump", "segment": [1.0, 2.0], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"test_000": []}, "no detections"),
        ({}, "no detections"),
        ({"test_000": [GOOD | {"label": "Jmup"}]}, "Jump"),
        ({"test_000": [GOOD | {"score": float("nan")}]}, "test_000"),
        ({"test_000": [GOOD | {"segment": [1.0]}]}, "test_000"),
        ({"test_000": [{"label": "Jump"}]}, "test_000"),
        ({"elsewhere": [GOOD]}, "elsewhere"),
        ([GOOD], "results"),
    ],
)
def test_bad_detections_are_one_message(cli, tiny: Path, tmp_path: Path, content: object, message: str) -> None:
    file = detection_file(tmp_path / "d.json", content)
    code, out, err = cli("evaluate", file, "--annotations", tiny / "annotations.json", "--json")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("error: ") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "anet-211"], "Did you mean"),
        (["--tious", "0.7:0.1:0.1"], "increase"),
        (["--tious", "many"], "many"),
        (["--subset", "tset"], "test"),
        (["--protocol", "anet-210"], "THUMOS14"),
    ],
)
def test_bad_options_of_evaluate(cli, tiny: Path, tmp_path: Path, options: list[str], message: str) -> None:
    file = detection_file(tmp_path / "d.json", {"test_000": [GOOD]})
    code, _, err = cli("evaluate", file, "--annotations", tiny / "annotations.json", *options)
    assert code == 2
    assert message in err


def test_missing_files_of_evaluate(cli, tiny: Path, tmp_path: Path) -> None:
    file = detection_file(tmp_path / "d.json", {"test_000": [GOOD]})
    assert cli("evaluate", tmp_path / "none.json", "--annotations", tiny / "annotations.json")[0] == 3
    assert cli("evaluate", file, "--annotations", tmp_path / "none.json")[0] == 3


def test_data_verify_says_what_is_wrong(cli, tiny: Path, tmp_path: Path) -> None:
    code, out, _ = cli("data", "verify", tiny, "--json")
    assert code == 0
    assert json.loads(out)["exit_code"] == 0
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    break_missing(data)
    code, out, err = cli("data", "verify", data)
    assert code == 3
    assert "train_003" in out
    assert "data are missing" in err
    shutil.copy(tiny / "features/train/rgb/train_003.npy", data / "features/train/rgb")
    break_nan(data)
    assert cli("data", "verify", data)[0] == 2


def test_reproduce_of_unknown_or_absent_data(cli, tmp_path: Path) -> None:
    code, _, err = cli("reproduce", "thumos13")
    assert code == 2
    assert "did you mean 'thumos14'?" in err
    code, _, err = cli("reproduce", "activitynet12", "--store", tmp_path)
    assert code == 3
    assert "activitynet12 has no synthetic stand-in, only thumos14, activitynet13, fineaction: give --data DIR" in err


def test_reproduce_of_a_synthetic_stand_in(cli, tmp_path: Path) -> None:
    what = ("--store", tmp_path / "runs", "--results", tmp_path / "results")
    chosen = ("--methods", "whole-video", "--seeds", 0, "--set", "train.epochs=1")
    code, _, err = cli("reproduce", "fineaction", *what, *chosen)
    assert code == 0, err
    assert "SYNTHETIC DATA" in err
    assert "1 runs on synthetic-fineaction" in err
    (folder,) = (tmp_path / "runs" / "runs").iterdir()
    record = FinishedRun.open(folder).record
    assert (record.synthetic, record.data.title) == (True, "Synthetic data set calibrated to FineAction")
    assert (len(record.classes), list(record.metrics)) == (106, ["anet"])
    assert record.metrics["anet"].averages.keys() == {"0.5:0.95"}
    page = tmp_path / "results/leaderboards/synthetic-fineaction.md"
    assert "ynthetic" in page.read_text().splitlines()[0]
    # a run by itself is the same one
    same = ("--method", "whole-video", "--descriptor", "fineaction", *what[:2], *chosen[4:])
    code, out, err = cli("run", *same, "--json")
    assert code == 0, err
    assert json.loads(out)["id"] == record.id


@pytest.mark.shared
def test_reproduce_of_another_data_set_than_named(cli, shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "thumos14_r2plus1d"
    code, _, err = cli("reproduce", "fineaction", "--data", data, "--store", tmp_path)
    assert code == 2
    assert "holds thumos14-r2plus1d, not fineaction. Leave the name out" in err


def test_reproduce_takes_an_own_data_sets_name(cli, tiny: Path, tmp_path: Path) -> None:
    what = ("--data", tiny, "--store", tmp_path / "runs", "--results", tmp_path / "results", *QUICK)
    code, _, err = cli("reproduce", "tiny", "--methods", "random", "--seeds", 0, *what)
    assert code == 0
    assert "Done: 1 runs" in err
    code, _, err = cli("reproduce", "--methods", "random", "--seeds", 0, *what)
    assert code == 0
    for wrong in ("tinny", "thumos14"):
        code, _, err = cli("reproduce", wrong, *what)
        assert code == 2
        assert f"holds tiny, not {wrong}. Leave the name out" in err


def test_robustness_writes_its_page_and_prints_it(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.studies import robustness
    from harness.studies.planted_clusters import Problem

    tiny = Problem(classes=3, anchors=2, held_out=5, steps=1)
    monkeypatch.setattr(robustness, "PROBLEM", tiny)
    code, out, err = cli("paper", "robustness", "--seeds", 2, "--temperature", 0.2, "--out", tmp_path)
    page = (tmp_path / "robustness.md").read_text()
    figure = (tmp_path / "leaderboards" / "figures" / "robustness.svg").read_bytes()
    assert (code, out) == (0, page.rstrip() + "\n")
    assert "tau = 0.2: the claim **" in page
    assert "Done: " in err
    code, out, _ = cli("paper", "robustness", "--seeds", 2, "--temperature", 0.2, "--out", tmp_path, "--json")
    assert code == 0
    printed = json.loads(out)
    assert printed["seeds"] == 2
    assert printed.items() >= json.loads((tmp_path / "robustness.json").read_text()).items()
    assert (tmp_path / "robustness.md").read_text() == page
    assert (tmp_path / "leaderboards" / "figures" / "robustness.svg").read_bytes() == figure


@pytest.mark.parametrize(("option", "value"), [("--temperature", 0.01), ("--temperature", "nan"), ("--seeds", 1)])
def test_bad_options_of_robustness(cli, tmp_path: Path, option: str, value: object) -> None:
    code, out, err = cli("paper", "robustness", option, value, "--out", tmp_path / "results")
    assert (code, out) == (2, "")
    assert f"error: {option} wants" in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "arguments", [["run"], ["--method"], ["run", "--method", "acmnet", "--threads", "0"], ["nothing"]]
)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: " in capsys.readouterr().err
