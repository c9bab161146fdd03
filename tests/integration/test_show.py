"""Journey of a run that is looked at: trained, shown, diagnosed, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.data.tiny import write_tiny
from harness.records.files import GROUND_TRUTH, RECORD
from harness.records.run_folder import FinishedRun
from tests.helpers.html import Reader
from tests.helpers.runs import run

VIDEO = "test_000"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of a small data set."""
    folder = tmp_path_factory.mktemp("show")
    data = write_tiny(folder / "data")
    return [run(data, folder / "store", method) for method in ("acmnet", "wtalc")]


def test_the_stored_ground_truth_gives_the_runs_own_numbers(
    finished: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    detections, truth = finished[0] / "detections.json.gz", finished[0] / GROUND_TRUTH
    assert main(["evaluate", str(detections), "--annotations", str(truth), "--tious", "0.1:0.1:0.7", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["anet"]["averages"]
    assert found == pytest.approx(FinishedRun.open(finished[0]).record.scored.averages)


def test_a_page_of_a_run(finished: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(finished[0])]) == 0
    path = finished[0] / "page.html"
    assert capsys.readouterr().out.strip() == str(path)
    reader = Reader()
    reader.feed(path.read_text())
    headings = [element.text for element in reader.root.all("h3")]
    assert {"Typical videos", "Classes", "Videos", "Kinds of errors", "Training"} <= set(headings)
    assert len(reader.root.all("svg")) >= 8
    assert "http://" not in path.read_text().replace("http://www.w3.org/", "")
    # it is beside the run, and no part of it
    assert FinishedRun.open(finished[0]).record.artefacts.keys().isdisjoint({"page.html"})


def test_timelines_of_several_runs_by_folder_and_by_id(
    finished: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = finished[0].parents[1]
    ids = [finished[0].name, str(finished[1])]
    assert main(["show", *ids, VIDEO, "test_001", "--store", str(store), "--out", str(tmp_path), "--to", "30"]) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == [str(tmp_path / f"{video}.svg") for video in (VIDEO, "test_001")]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{video}{end}" for video in (VIDEO, "test_001") for end in (".svg", ".png", "-dark.png")
    }
    drawn = (tmp_path / f"{VIDEO}.svg").read_text()
    assert "ACM-Net, seed 0" in drawn
    assert "W-TALC, seed 0" in drawn


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN", "test_00"], "scored no video 'test_00'"),
        (["no-such-run"], "holds no finished run"),
        (["RUN", VIDEO, "--tiou", "0"], "--tiou within"),
        (["RUN", VIDEO, "--from", "50", "--to", "20"], "nothing from 50 to 20 s"),
    ],
)
def test_wrong_words_are_told(
    finished: list[Path], capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["show", *(str(finished[0]) if word == "RUN" else word for word in words)]) == 2
    assert said in capsys.readouterr().err


def test_diagnosis_of_a_run_is_that_of_its_files(finished: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(finished[0]), "--json"]) == 0
    (of_run,) = json.loads(capsys.readouterr().out)
    files = [str(finished[0] / "detections.json.gz"), "--annotations", str(finished[0] / GROUND_TRUTH)]
    assert main(["diagnose", *files, "--tious", "0.1:0.1:0.7", "--json"]) == 0
    (of_file,) = json.loads(capsys.readouterr().out)
    assert of_run["seeds"] == of_file["seeds"]


def test_systems_side_by_side_with_files(
    finished: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", *map(str, finished), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for words in ("ACM-Net", "W-TALC", "By length"):
        assert words in text
    assert text.count("of the instances are missed") == 2
    assert (tmp_path / "diagnosis.html").exists()
    assert (tmp_path / "diagnosis.md").exists()


def test_the_costliest_kind_is_named(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = shared / "data/detections/thumos14_pmil_base.json", shared / "data/thumos14"
    assert main(["diagnose", str(found), "--annotations", str(truth), "--protocol", "anet-210"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    # the recorded gain is 6.7 points (fixtures/diagnosis)
    assert first.startswith("**thumos14_pmil_base**: localization errors cost most")
    assert "would rise by 6.7 points; 32 %" in first


def test_without_a_ground_truth_the_remedy_is_named(
    finished: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((finished[0] / RECORD).read_text())
    del record["artefacts"][GROUND_TRUTH]
    for path in finished[0].iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / RECORD).write_text(json.dumps(record))
    for command in (["show", str(tmp_path), VIDEO], ["diagnose", str(tmp_path)]):
        assert main(command) == 2
        assert "with --annotations" in capsys.readouterr().err
    truth = str(finished[0] / GROUND_TRUTH)
    assert main(["diagnose", str(tmp_path), "--annotations", truth]) == 0
    assert main(["diagnose", str(finished[0] / "detections.json.gz")]) == 2
