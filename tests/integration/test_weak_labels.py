"""Data sets of video-level labels alone: training, detections and pages, and no number that nothing justifies."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.io.encoding import sha256
from harness.records.files import DETECTIONS, MATCHES, RECORD
from harness.records.run_folder import FinishedRun
from tests.helpers.small_data import CLASSES, write_tiny

Call = Callable[..., tuple[int, str, str]]
EPOCHS = "train.epochs=8"
SIZES = ("train.temporal_length=16", "train.batch_size=1", "train.learning_rate=3e-3", "train.test_length=16")
QUICK = ("--device", "cpu", "--threads", "1", "--set", EPOCHS, *SIZES)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def weaken(data: Path, test: str) -> Path:
    """Take the times of all labels; of test videos keep the labels, or an empty list, or not even that.

    The times stay in a file of their own beside the data, which is returned.
    """
    path = data / "annotations.json"
    content = json.loads(path.read_text())
    (truth := data.parent / "truth.json").write_text(path.read_text())
    for entry in content["database"].values():
        labels = [{"label": label} for label in sorted({one["label"] for one in entry["annotations"]})]
        entry["annotations"] = labels if entry["subset"] == "train" or test == "labels" else []
        if entry["subset"] == "test" and test == "nothing":
            del entry["annotations"]
    path.write_text(json.dumps(content))
    return truth


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data of labels alone, a run on them, and the times that nobody gave it."""
    folder = tmp_path_factory.mktemp("weak")
    truth = weaken(write_tiny(folder / "data"), "empty")
    where = ("--data", folder / "data", "--store", folder / "runs")
    assert main([*map(str, ("run", "--method", "acmnet", *where, *QUICK))]) == 0
    (run,) = (folder / "runs" / "runs").iterdir()
    return folder, run, truth


@pytest.mark.parametrize("test", ["labels", "nothing"])
def test_a_run_ends_well_and_says_that_nothing_was_evaluated(cli: Call, tmp_path: Path, test: str) -> None:
    weaken(write_tiny(tmp_path / "data"), test)
    code, out, err = cli(
        "run", "--method", "wtalc", "--data", tmp_path / "data", "--store", tmp_path / "s", *QUICK, "--observe", 4
    )
    assert (code, out) == (0, ""), err
    (run,) = (tmp_path / "s" / "runs").iterdir()
    record = FinishedRun.open(run).record
    assert f"No ground truth of the test videos: no mAP; {record.found} detections: {run / DETECTIONS}" in err
    assert (record.metrics, record.common_localizer, MATCHES in record.artefacts) == ({}, None, False)
    assert record.per_class == [None] * len(record.classes) == [None] * 3
    assert [look.test for look in record.observations] == [None, None]


def test_a_later_truth_scores_the_detections(cli: Call, weak: tuple[Path, Path, Path]) -> None:
    folder, run, truth = weak
    code, _, err = cli("evaluate", run)
    assert code == 2
    assert "has no mAP: its test videos had no ground truth. `wstal-bench evaluate RUN --annotations GT`" in err
    code, out, err = cli("evaluate", run, "--annotations", truth, "--json")
    assert code == 0, err
    scored = json.loads(out)["anet"]
    assert scored["mAP"]["0.5"] > 0
    assert scored["detections"] == FinishedRun.open(run).record.found
    # the same as the file that `predict` writes: the times changed nothing in training
    predicted = cli("predict", run, "--data", folder / "data", "--subset", "test", "--out", folder / "found.json")
    assert predicted[0] == 0
    code, out, _ = cli("evaluate", folder / "found.json", "--annotations", truth, "--json")
    assert json.loads(out)["anet"]["mAP"] == scored["mAP"]
    code, out, err = cli("diagnose", run, "--annotations", truth)
    assert code == 0, err


def test_the_page_and_the_timelines_show_detections_without_hits(cli: Call, weak: tuple[Path, Path, Path]) -> None:
    folder, run, truth = weak
    code, out, err = cli("show", run)
    assert code == 0, err
    page = Path(out.strip()).read_text()
    assert "without ground truth, so without mAP" in page
    assert page.count("no ground truth") >= 3  # of each timeline
    assert "Losses by step" in page
    assert "Average precision" not in page
    code, _, err = cli("show", run, "test_000", "--out", folder / "plain")
    assert code == 0, err
    drawn = (folder / "plain" / "test_000.svg").read_text()
    assert "no ground truth" in drawn
    assert ">hit<" not in drawn
    code, _, err = cli("show", run, "test_000", "--annotations", truth, "--out", folder / "judged")
    assert code == 0, err
    assert "truth: " in (folder / "judged" / "test_000.svg").read_text()
    assert cli("show", run, "--annotations", truth)[0] == 0


def test_a_run_that_found_nothing_has_a_page_too(cli: Call, weak: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, run, _ = weak
    shutil.copytree(run, copy := tmp_path / run.name)
    record = json.loads((copy / RECORD).read_text())
    (copy / DETECTIONS).write_bytes(nothing := gzip.compress(b'{"results": {}}'))
    record["artefacts"][DETECTIONS], record["detections"] = sha256(nothing), 0
    (copy / RECORD).write_text(json.dumps(record))
    code, out, err = cli("show", copy)
    assert code == 0, err
    assert "0 detections in 5 videos, without ground truth" in Path(out.strip()).read_text()


def test_what_needs_numbers_says_that_there_are_none(cli: Call, weak: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, run, _ = weak
    for command in ("diagnose", "compare"):
        code, out, err = cli(command, run, *([run] if command == "compare" else []))
        assert (code, out) == (2, "")
        assert "has no mAP: its test videos had no ground truth" in err
    code, out, _ = cli("ls", "runs", "--store", folder / "runs", "--json")
    assert (code, json.loads(out)) == (
        0, [{"run": str(run), "status": "done", "protocol": "none: no ground truth"}]
    )  # fmt: skip
    code, out, err = cli("records", "query", "--store", folder / "runs", "--json")
    assert (code, [row["mean"] for row in json.loads(out)]) == (0, [None])
    assert "1 without mean: their test videos had no ground truth." in err
    assert cli("records", "diff", run, run)[0] == 0
    # among results it is left out of every page, with the reason
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "one.json").write_bytes((run / RECORD).read_bytes())
    _, _, err = cli("leaderboard", "--results", tmp_path)
    assert "its test videos had no ground truth, so it has no mAP to be ranked by" in err
    assert not [path for path in tmp_path.glob("leaderboards/*.md") if run.name in path.read_text()]


def test_reproduce_trains_what_labels_suffice_for(cli: Call, weak: tuple[Path, Path, Path], monkeypatch: Any) -> None:
    folder, run, _ = weak
    monkeypatch.setattr("harness.registry.method_entries", few(("acmnet", "threecnet", "bmn", "random")))
    monkeypatch.setattr("harness.runs.plans.paper_tables", list)
    code, out, err = cli(
        "reproduce", "--data", folder / "data", "--store", folder / "all", "--seeds", 0, "--jobs", 1, *QUICK
    )
    assert (code, out) == (0, ""), err
    assert "labels without times, so these are left out: bmn, threecnet." in err
    assert "No ground truth of the test videos: no mAP, no ranking." in err
    assert f"Done: 2 runs. Detections: {folder / 'all' / 'runs' / '*' / DETECTIONS}" in err
    done = {path.parent.name.split("-")[1] for path in (folder / "all" / "runs").glob("*/page.html")}
    assert done == {"acmnet", "random"}
    assert not (folder / "all" / "results").exists()
    assert (folder / "all" / "runs" / run.name / RECORD).exists()


def few(names: tuple[str, ...]) -> Callable[[], dict[str, Any]]:
    """The registry with these methods alone."""
    from harness.registry import method_entries

    chosen = {name: entry for name, entry in method_entries().items() if name in names}
    return lambda: chosen


def test_times_are_needed_for_what_looks_at_them(cli: Call, weak: tuple[Path, Path, Path], tmp_path: Path) -> None:
    where = ("--data", weak[0] / "data", "--store", tmp_path)
    code, _, err = cli("run", "--method", "bmn", *where, "--set", EPOCHS)
    assert code == 2
    assert "trains on times" in err
    # nor does an oracle of the test videos' classes have any
    data = write_tiny(tmp_path / "timed")
    content = json.loads((data / "annotations.json").read_text())
    for entry in content["database"].values():
        entry["annotations"] = entry["annotations"] * (entry["subset"] == "train")
    (data / "annotations.json").write_text(json.dumps(content))
    oracle = ("--set", EPOCHS, 'localizer.class_score="true"')
    code, _, err = cli("run", "--method", "bmn", "--data", data, "--store", tmp_path, *oracle)
    assert code == 2
    assert "takes the classes of the ground truth, which the test videos lack" in err
    code, _, err = cli("run", "--method", "acmnet", *where, *QUICK, "--held-out", "0.3")
    assert code == 2
    assert "cannot be scored" in err


def test_official_labels_beside_annotations_without_any_are_enough_too(cli: Call, tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    content = json.loads((data / "annotations.json").read_text())
    labels = {}
    for video, entry in content["database"].items():
        if entry["subset"] == "train":
            labels[video] = {"labels": [one["label"] for one in entry["annotations"]]}
        entry["annotations"] = []
    (data / "annotations.json").write_text(json.dumps(content))
    (data / "video_labels.json").write_text(json.dumps(labels))
    with (data / "dataset.toml").open("a") as file:
        file.write(f"classes = {json.dumps(CLASSES)}\n")
    where = ("--data", data, "--store", tmp_path / "s")
    code, _, err = cli("reproduce", *where, "--methods", "wtalc", "--seeds", 0, "--jobs", 1, *QUICK)
    assert code == 0, err
    assert "[1/1] wtalc " in err
    assert "detections\n" in err
    assert "No ground truth of the test videos: no mAP, no ranking." in err
    code, _, err = cli("tune", "wtalc", *where, "--jobs", 1)
    assert code == 2
    assert "have no annotated instance, so they can choose nothing" in err
