"""`evaluate` of a run's folder: the run's own numbers again, class by class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.io.encoding import sha256
from harness.records.files import DETECTIONS, GROUND_TRUTH, RECORD
from harness.records.run_folder import FinishedRun
from tests.helpers.runs import run as train
from tests.helpers.small_data import write_tiny

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(write_tiny(tmp_path_factory.mktemp("tiny")), tmp_path_factory.mktemp("store"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_run_is_scored_against_the_truth_that_it_keeps(cli: Call, folder: Path) -> None:
    record = FinishedRun.open(folder).record
    code, out, err = cli("evaluate", folder, "--json")
    assert code == 0
    scored = json.loads(out)
    assert list(scored) == [record.headline]
    assert scored[record.headline]["mAP"] == record.scored.mean_ap
    assert "Done: " in err
    code, out, _ = cli("evaluate", folder, "--json", "--protocol", "all")
    found = {name: one["averages"] for name, one in json.loads(out).items()}
    assert {name: found[name] for name in record.metrics} == {
        name: one.averages for name, one in record.metrics.items()
    }


def test_classes_are_listed_best_first(cli: Call, folder: Path) -> None:
    record = FinishedRun.open(folder).record
    code, out, _ = cli("evaluate", folder, "--per-class")
    assert code == 0
    table = out.split("AP (%) of each class under anet:\n\n")[1].splitlines()
    assert table[0].split() == ["class", "instances", *record.scored.mean_ap, "mean"]
    rows = {line.split()[0]: line.split()[1:] for line in table[2:]}
    assert set(rows) == set(record.classes)
    stated = dict(zip(record.classes, record.per_class, strict=True))
    for label, (_, *cells) in rows.items():
        aps = stated[label]
        assert aps is not None
        assert cells == [f"{ap:.2f}" for ap in aps] + [f"{sum(aps) / len(aps):.2f}"]
    means = [float(row[-1]) for row in rows.values()]
    assert means == sorted(means, reverse=True)


def test_a_detection_file_is_listed_by_class_too(cli: Call, folder: Path) -> None:
    truth = ("--annotations", folder / GROUND_TRUTH, "--tious", "0.5")
    code, out, _ = cli("evaluate", folder / DETECTIONS, *truth, "--per-class")
    assert code == 0
    assert "class    instances    0.5    mean" in out.split("AP (%) of each class under anet:")[1]


def changed(folder: Path, copy: Path, name: str, content: bytes | None) -> Path:
    """A copy of a run with another file, and the file's digest in its record."""
    copy.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    record = json.loads((copy / RECORD).read_text())
    if content is None:
        (copy / name).unlink()
        del record["artefacts"][name]
    else:
        (copy / name).write_bytes(content)
        record["artefacts"][name] = sha256(content)
    (copy / RECORD).write_text(json.dumps(record))
    return copy


def test_a_class_that_the_test_videos_lack_and_a_run_that_found_nothing_are_no_mistakes(
    cli: Call, folder: Path, tmp_path: Path
) -> None:
    truth = json.loads((folder / GROUND_TRUTH).read_text())
    gone = FinishedRun.open(folder).record.classes[0]
    for entry in truth["database"].values():
        entry["annotations"] = [one for one in entry["annotations"] if one["label"] != gone]
    fewer = changed(folder, tmp_path / "fewer", GROUND_TRUTH, json.dumps(truth).encode())
    code, out, err = cli("evaluate", fewer, "--json")
    assert code == 0, err
    assert gone not in json.loads(out)["anet"]["per_class"]
    nothing = changed(folder, tmp_path / "nothing", "detections.json.gz", b'{"results": {}}')
    code, out, err = cli("evaluate", nothing, "--json")
    assert code == 0, err
    assert set(json.loads(out)["anet"]["mAP"].values()) == {0.0}


def test_a_run_without_truth_and_what_is_no_run_are_refused(cli: Call, folder: Path, tmp_path: Path) -> None:
    older = changed(folder, tmp_path / "older", GROUND_TRUTH, None)
    code, _, err = cli("evaluate", older)
    assert code == 2
    assert "with --annotations" in err
    assert cli("evaluate", older, "--annotations", folder / GROUND_TRUTH)[0] == 0
    code, _, err = cli("evaluate", tmp_path)
    assert code == 2
    assert "holds no finished run" in err
    code, _, err = cli("evaluate", folder, "--strip-prefix", "v_")
    assert code == 2
    assert "--strip-prefix is for detection files" in err
