"""From Python: the pages' code as it stands, on small data, and the numbers that the command line gives."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness import api
from harness.cli.main import main
from tests.helpers.small_data import write_tiny
from wstal.errors import MissingDataError, UserError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "docs" / "python.ipynb"
QUICK = {"train.epochs": 12, "train.temporal_length": 32, "train.learning_rate": 3e-3, "train.batch_size": 3}


def blocks_of_page() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def blocks_of_notebook() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Run]:
    """A finished run. What a run sets for its process, another test does not meet."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    store = tmp_path_factory.mktemp("store")
    yield harness.train("acmnet", harness.load_data(tiny), options=QUICK, store=store, device="cpu", threads=1)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.mark.usefixtures("run")  # restores what a run sets
@pytest.mark.parametrize("blocks", [blocks_of_page, blocks_of_notebook], ids=["page", "notebook"])
def test_the_documented_code_runs(
    blocks: Callable[[], list[str]], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unchanged but for the data set, which is small in place of the embedded one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harness, "load_data", lambda folder=None: api.load_data(folder or tiny), raising=False)
    code = blocks()
    assert len(code) >= 8
    names: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for block in code:
            exec(compile(block, "block", "exec"), names)
    assert "did you mean 'acmnet'" in said.getvalue()
    assert Path("timeline.svg").read_text().startswith("<")
    assert isinstance(names["run"], harness.Run)


def test_a_run_from_python_is_the_run_of_the_command(
    run: harness.Run, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{name}={value}" for name, value in QUICK.items()]
    command = ["run", "--method", "acmnet", "--data", str(tiny), "--store", str(tmp_path), "--threads", "1"]
    assert main([*command, "--device", "cpu", "--json", "--set", *words]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["id"], record["artefacts"]) == (run.record.id, run.record.artefacts)
    assert run.metrics.loc["anet", "0.1:0.7"] == record["metrics"]["anet"]["averages"]["0.1:0.7"] > 30
    again = harness.train("acmnet", harness.load_data(tiny), options=words, store=run.folder.parent.parent, threads=1)
    assert again.folder == run.folder
    assert list(run.losses["total"]) == json.loads((run.folder / "history.json").read_text())["steps"]["total"]


def test_every_form_of_detections_and_of_ground_truth_gives_the_same_numbers(run: harness.Run, tiny: Path) -> None:
    detections, truth = run.folder / "detections.json.gz", run.folder / "ground_truth.json"
    expected = harness.evaluate(run)
    assert expected.mean_ap.to_dict() == run.record.scored.mean_ap
    assert repr(expected).startswith(f"Evaluation(anet: mAP@0.1 {expected.mean_ap['0.1']:.1f}, ")
    by_video = {
        str(video): [
            {"label": label, "segment": [np.float64(start), end], "score": score}
            for _, label, start, end, score in rows.itertuples(index=False)
        ]
        for video, rows in run.detections.groupby("video")
    }
    toolkit = run.detections.rename(columns={"video": "video-id", "start": "t-start", "end": "t-end"})
    database = json.loads(truth.read_text())
    for found in (detections, str(detections), by_video, {"results": by_video}, run.detections, toolkit):
        for known in (truth, database, database["database"], run.ground_truth):
            scored = harness.evaluate(found, known, "anet", tious="0.1:0.1:0.7")
            assert scored.averages.to_dict() == expected.averages.to_dict()
            pd.testing.assert_frame_equal(scored.per_class, expected.per_class)
    own = harness.load_data(tiny).ground_truth("test")
    assert harness.evaluate(run.detections, own, tious=[0.5]).mean_ap["0.5"] == expected.mean_ap["0.5"]
    assert harness.evaluate(str(run.folder), protocol="anet").counts == expected.counts


def test_a_diagnosis_is_the_same_for_a_run_and_for_its_tables(run: harness.Run) -> None:
    of_run = harness.diagnose(run)
    assert of_run.keys() == {"ap", "errors", "slabs", "buckets"}
    of_tables = harness.diagnose(run.detections, run.ground_truth, tious="0.1:0.1:0.7")
    for name in ("ap", "errors", "slabs"):
        pd.testing.assert_frame_equal(of_run[name], of_tables[name])
    assert of_run["ap"].query("tiou == '0.5' and `class` == 'mean'")["ap"].item() == run.metrics.loc["anet", "0.5"]


def test_a_run_has_weights_scores_and_predictions(run: harness.Run, tiny: Path, tmp_path: Path) -> None:
    data = harness.load_data(tiny)
    pd.testing.assert_frame_equal(run.predict(data, device="cpu"), run.detections)
    (video,) = (video for video in data.videos("test") if video.name == run.videos[0])
    with torch.no_grad():
        made = run.method().score(torch.from_numpy(video.features.astype(np.float32)))
    scores = run.scores(video.name)
    np.testing.assert_allclose(made.video_scores.numpy(), scores.video_scores, rtol=1e-5)
    run.plot(video.name, run).save(tmp_path / "two.png")
    assert (tmp_path / "two.png").read_bytes()[1:4] == b"PNG"
    assert run.plot(video.name)._repr_png_()[1:4] == b"PNG"
    with pytest.raises(UserError, match=r"saved as \.svg or \.png"):
        run.plot(video.name).save(tmp_path / "two.pdf")
    assert not (tmp_path / "two.pdf").exists()


def test_results_are_a_table(run: harness.Run, tmp_path: Path) -> None:
    store = run.folder.parent.parent
    fields = ["id", "mean", "recipe.train.epochs"]
    (row,) = harness.results(store, ["method=acmnet"], fields).to_dict("records")
    assert row == {"id": run.record.id, "mean": run.metrics.loc["anet", "0.1:0.7"], "recipe.train.epochs": 12}
    stored = harness.results(ROOT / "results", where=["data=thumos14-r2plus1d", "method=acmnet", "overrides="])
    assert set(stored["seed"]) >= set(range(6))
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "bad.json").write_text("{}")
    with pytest.warns(UserWarning, match="no schema number"):
        assert list(harness.results(tmp_path).columns)[:2] == ["id", "data"]


def test_a_run_is_found_by_its_id_and_no_other_is(run: harness.Run, tmp_path: Path) -> None:
    assert harness.load_run(run.record.id, store=run.folder.parent.parent).record == run.record
    with pytest.raises(UserError, match="holds no finished run"):
        harness.load_run("nothing", store=tmp_path)


TRUTH = {"v": {"annotations": [{"label": "a", "segment": [0, 1]}]}}


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: harness.load_data(labels="mine"), "`labels`: Input should be 'official'"),
        (lambda: harness.load_data(colour="red"), "`colour`: Extra inputs"),
        (lambda: harness.evaluate({"v": []}, TRUTH), "detections has no detections"),
        (lambda: harness.evaluate({"v": []}), "Name the ground truth of detections"),
        (lambda: harness.evaluate(cast(Any, 3), TRUTH), "Expected a path, an object or a table, got int"),
        (lambda: harness.evaluate({"v": [{"label": "b", "segment": [0, 1], "score": 1}]}, TRUTH), "label 'b'"),
        (lambda: harness.evaluate({"v": [{"label": "a", "segment": {1}, "score": 1}]}, TRUTH), "no number, text"),
        (lambda: harness.evaluate(pd.DataFrame({"video": ["v"]}), TRUTH), "lacks label, start, end, score"),
        (
            lambda: harness.evaluate({"v": [{"label": "a", "segment": [0, 1], "score": 1}]}, TRUTH, "anett"),
            "Did you mean anet",
        ),
    ],
)
def test_mistakes_are_errors_that_say_the_remedy(mistake: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mistake()


def test_mistakes_about_runs_and_data(run: harness.Run, tiny: Path) -> None:
    data = harness.load_data(tiny)
    with pytest.raises(MissingDataError, match="nowhere is not a folder"):
        harness.load_data("nowhere")
    with pytest.raises(UserError, match=r"did you mean 'train\.learning_rate'"):
        harness.train("acmnet", data, options={"lr": 1})
    with pytest.raises(UserError, match="The run scored no video 'nope'"):
        run.plot("nope")
    with pytest.raises(UserError, match="is the one that it keeps, or a file"):
        harness.evaluate(run, run.ground_truth)
    with pytest.raises(UserError, match="no folder of results"):
        harness.results("nowhere")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        harness.nothing  # noqa: B018
