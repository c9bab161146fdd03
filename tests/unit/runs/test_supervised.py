"""Times reach supervised methods alone, and classes of proposals come from where the title says."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.acmnet import AcmNet
from baselines.bmn import Bmn, BmnOptions
from harness.data.class_scores import WithClassScores
from harness.data.counts import supervised_videos, training_videos
from harness.data.detections import read_detections
from harness.data.held_out import HeldOutSource
from harness.data.opening import open_dataset
from harness.data.source import DataSource
from harness.data.synthetic import EmbeddedSource
from harness.data.synthetic_spec import SyntheticSpec
from harness.records.files import DETECTIONS
from harness.records.run_folder import FinishedRun
from harness.records.scores import StoredScores
from harness.records.store import Store
from harness.runs.examples import examples_of, training_input
from harness.runs.execute import execute
from harness.runs.failed_step import losses_of
from harness.runs.spec import plan_run
from harness.runs.training import check_batches, train
from harness.testing import CHECKS, example, example_for
from tests.helpers.runs import SIZES, run
from tests.helpers.small_data import write_tiny
from tests.helpers.supervised import videos
from tests.helpers.training import SPEC, fresh
from wstal.errors import UserError
from wstal.supervised import SupervisedMethod
from wstal.types import Batch, SupervisedBatch, SupervisedVideo, Supervision, Video

SMALL = SyntheticSpec(train_videos=20, test_videos=6, classes=4, width=8, max_length=32)
TIMES = {"label", "start", "end"}


def bmn() -> Bmn:
    return Bmn(BmnOptions(**(Bmn.CHECK_OPTIONS | {"window": 64})), 8, 3)


def test_supervised_input_is_no_kind_of_weak_input() -> None:
    assert not issubclass(SupervisedVideo, Video)
    assert not issubclass(SupervisedBatch, Batch)
    assert {field.name for field in fields(SupervisedVideo)} == {"video", *TIMES}
    assert not TIMES & {field.name for field in fields(Video)}


@pytest.mark.parametrize("share", [0, 0.25])
def test_supervised_videos_have_the_annotated_times_of_training_videos(share: float) -> None:
    whole = EmbeddedSource.of(SMALL)
    source = HeldOutSource.of(whole, share) if share else whole
    truth = whole.ground_truth("train")
    found = supervised_videos(source)
    assert [one.video.name for one in found] == [video.name for video in source.videos("train")]
    assert not {one.video.name for one in found} & {video.name for video in source.videos("test")}
    for one in found:
        assert type(one.video) is Video
        own = truth.video == truth.videos.index(one.video.name)
        assert own.any()
        for column in TIMES:
            np.testing.assert_array_equal(getattr(one, column), getattr(truth, column)[own])


def test_weak_methods_get_no_times_and_supervised_ones_do() -> None:
    source = EmbeddedSource.of(SMALL)
    assert all(type(video) is Video for video in training_input(source, AcmNet))
    assert all(type(video) is SupervisedVideo for video in training_input(source, Bmn))
    with pytest.raises(ValueError, match="gets no times"):
        training_videos(source, "full")


def test_a_weak_method_cannot_be_handed_times(tmp_path: Path) -> None:
    timed, weak = videos(), [one.video for one in videos()]
    method = fresh()
    for given in (timed, [*weak[:-1], timed[-1]]):
        with pytest.raises(TypeError, match="about to be handed times"):
            examples_of(method, given, SPEC, stage=0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="about to be handed times"):
            train(method, given, SPEC, 0, tmp_path, {})  # type: ignore[arg-type]
    supervised = example_for(bmn_of_check())
    assert isinstance(supervised, SupervisedBatch)
    with pytest.raises(TypeError, match="supervision weak, not one for a SupervisedBatch"):
        losses_of(method, supervised)


def bmn_of_check() -> Bmn:
    return Bmn(BmnOptions(**Bmn.CHECK_OPTIONS), 16, 4)


def test_a_supervised_method_cannot_be_handed_videos_without_times() -> None:
    with pytest.raises(TypeError, match="v0 without times"):
        examples_of(bmn(), [one.video for one in videos()], SPEC, stage=0)
    method = bmn_of_check()
    with pytest.raises(TypeError, match="trains on windows with targets"):
        method.losses(example())
    with pytest.raises(TypeError, match="supervision full, not one for a Batch"):
        losses_of(method, example())


def test_the_declared_supervision_is_that_of_the_contract() -> None:
    class Pretender(AcmNet):
        supervision: ClassVar[Supervision] = "full"

    class Weak(Bmn):
        supervision: ClassVar[Supervision] = "weak"

    with pytest.raises(UserError, match=r"no wstal\.supervised\.SupervisedMethod"):
        training_input(EmbeddedSource.of(SMALL), Pretender)
    for cls in (Pretender, Weak):
        with pytest.raises(AssertionError, match="supervision is"):
            CHECKS["training_reads_no_file"](cls)


def test_the_checks_notice_a_weak_method_that_takes_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The poison: what hands over batches forgets to look at their type."""

    def careless(method: AcmNet, batch: Batch) -> dict[str, Tensor]:
        return {"total": torch.zeros(())}

    monkeypatch.setattr("harness.testing.input_checks.losses_of", careless)
    with pytest.raises(AssertionError, match="was handed a batch with times"):
        CHECKS["training_reads_no_file"](AcmNet)


def test_labels_without_times_are_refused(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    content = json.loads((data / "annotations.json").read_text())
    video = content["database"]["train_000"]
    video["annotations"] = [{"label": video["annotations"][0]["label"]}]
    (data / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="trains on times, which the annotations do not give"):
        supervised_videos(open_dataset(data))


def test_batches_are_windows_with_targets() -> None:
    method, given = bmn(), videos()
    examples = examples_of(method, given, SPEC, stage=0)
    windows = method.windows(given, 0)
    assert examples.labels == [given[window.video].video.labels for window in windows]
    batch, whole = examples.batch(np.array([0, 3]), np.random.default_rng(0))
    assert isinstance(batch, SupervisedBatch)
    assert whole
    assert batch.features.shape == (2, 64, 8)
    assert batch.videos == tuple(given[windows[index].video].video.name for index in (0, 3))
    for row, index in enumerate((0, 3)):
        window = windows[index]
        torch.testing.assert_close(batch.features[row], window.features(given[window.video].video.features))
        torch.testing.assert_close(batch.targets["iou"][row], method.targets(given[window.video], window, 0)["iou"])
    assert batch.labels.argmax(dim=1).tolist() == [given[windows[index].video].video.labels[0] for index in (0, 3)]


def test_no_window_with_an_instance_is_a_message() -> None:
    empty = [replace(one, label=one.label[:0], start=one.start[:0], end=one.end[:0]) for one in videos()]
    with pytest.raises(UserError, match="bmn finds no window with an instance in the 4 training videos"):
        check_batches(bmn(), empty, SPEC)


def test_supervised_methods_are_no_base_of_weak_ones() -> None:
    assert issubclass(Bmn, SupervisedMethod)
    assert not issubclass(AcmNet, SupervisedMethod)


OPTIONS = {f"method.{name}": value for name, value in (Bmn.CHECK_OPTIONS | {"window": 32, "durations": 16}).items()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data")


def score_file(path: Path, source: DataSource, reverse: bool = False) -> Path:
    """Each test video's first true class has 0.8, the others share the rest; columns in the named order."""
    names = source.classes[::-1] if reverse else source.classes
    tested = source.videos("test")
    scores = np.full((len(tested), len(names)), 0.2 / (len(names) - 1))
    for row, video in zip(scores, tested, strict=True):
        row[names.index(source.classes[video.labels[0]])] = 0.8
    np.savez(path, videos=[video.name for video in tested], scores=scores, classes=names)
    return path


def test_a_run_names_the_source_of_its_classes_and_trains_once(data: Path, tmp_path: Path, one_thread: None) -> None:
    store = tmp_path / "store"
    changed: list[dict[str, Any]] = [OPTIONS, OPTIONS | {"localizer.class_score": "true"}]
    own, oracle = (FinishedRun.open(run(data, store, "bmn", **changes)) for changes in changed)
    assert (own.record.supervision, own.record.title) == ("full", "BMN, own video classifier")
    assert oracle.record.title == "BMN, true classes (oracle)"
    assert oracle.record.training.weights_of == own.record.id
    source = open_dataset(data)
    truth = source.ground_truth("test")
    true = {(truth.videos[video], label) for video, label in zip(truth.video, truth.label, strict=True)}
    found = read_detections(oracle.artefact(DETECTIONS), source.classes)
    assert {(found.videos[video], label) for video, label in zip(found.video, found.label, strict=True)} == true
    scores = StoredScores(oracle).video(truth.videos[0])
    assert scores.proposals is not None
    assert scores.proposals.shape[1] == 4
    assert set(scores.class_scores["true"]) == {0, 1}


def test_a_run_takes_classes_from_a_file(data: Path, tmp_path: Path, one_thread: None) -> None:
    source, store = open_dataset(data), tmp_path / "store"
    own = FinishedRun.open(run(data, store, "bmn", **OPTIONS))
    given = WithClassScores.of(source, score_file(tmp_path / "scores.npz", source, reverse=True))
    spec = plan_run("bmn", 0, given, SIZES | OPTIONS | {"localizer.class_score": "file"})
    folder, record, _ = execute(spec, given, Store(store), torch.device("cpu"))
    assert record.title == "BMN, classes of a score file"
    assert record.training.weights_of == own.record.id
    assert "class_scores" in (record.data.digests or {})
    first = source.videos("test")[0]
    stored = StoredScores(FinishedRun.open(folder)).video(first.name)
    assert stored.class_scores["file"].argmax() == first.labels[0]


def test_a_file_of_classes_that_was_not_given_is_a_message(data: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = OPTIONS | {"localizer.class_score": "file"}
    with pytest.raises(UserError, match="give it with --class-scores"):
        run(data, tmp_path / "store", "bmn", **changes)
