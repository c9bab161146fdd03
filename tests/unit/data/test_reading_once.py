"""How often each feature file is looked at: once for each thing that is to be known, and again where it changed."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from baselines.acmnet import AcmNet, AcmNetOptions
from harness.data.digests import file_digests
from harness.data.features import in_memory, map_features, read_header
from harness.data.opening import open_dataset
from harness.data.verify import MANIFEST, verify
from harness.runs.request import DataRequest, RunRequest
from harness.runs.training import train
from harness.runs.worker import do_run
from tests.helpers.files import looks
from tests.helpers.small_data import write_tiny

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="names open files as Linux does"),
]
TRAIN, TEST, EPOCHS = 6, 4, 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data", train=TRAIN, test=TEST)


def files(data: Path, subset: str = "") -> list[Path]:
    return sorted((data / "features" / subset).rglob("*.npy"))


def each(data: Path, count: int) -> Counter[Path]:
    return Counter(dict.fromkeys(files(data), count))


def save(path: Path, value: float, rows: int = 6) -> Path:
    np.save(path, np.full((rows, 4), value, np.float32))
    return path


def test_verify_parses_each_header_once_and_reads_the_values_once(data: Path) -> None:
    with looks() as found:
        assert verify(data).exit_code == 0
    assert found.parsed == each(data, 1)
    assert found.opened == each(data, 2)
    assert max(found.asked.values()) <= 5  # those of the samples that shapes, widths and clocks are seen in


def test_verify_digests_each_file_once(data: Path) -> None:
    with looks() as found:
        verify(data, write_manifest=True)
    assert found.digested.total() == TRAIN + TEST + 2  # and dataset.toml and the annotations
    assert found.opened == each(data, 3)
    assert (data / MANIFEST).exists()
    with looks() as found:
        assert verify(data).exit_code == 0
    assert not found.parsed  # in the same process
    assert found.opened == each(data, 2)


def test_a_run_looks_at_each_file_once_for_each_thing(data: Path, tmp_path: Path) -> None:
    overrides = (f"train.epochs={EPOCHS}", "train.temporal_length=16", "train.batch_size=2")
    request = RunRequest(
        method="acmnet", data=DataRequest(data=data), overrides=overrides, store=tmp_path / "store", threads=1
    )
    with looks() as found:
        do_run(request)
    assert found.parsed == each(data, 1)
    assert found.digested == each(data, 1)
    # for its header, its digest and its values
    assert {path: found.opened[path] for path in files(data, "train")} == dict.fromkeys(files(data, "train"), 3)
    # values of test videos are checked before training and read to score, those of the shortest on trial too
    assert max(found.opened[path] for path in files(data, "test")) <= 3 + 3 + 3
    # at each opening, for samples of shapes, and the digests: in the run's name, at each checkpoint, after scoring
    assert max(found.asked.values()) <= 9 + 5 + 1 + EPOCHS + 1
    with looks() as found:
        do_run(request.model_copy(update={"seed": 1}))
    assert not found.parsed
    assert not found.digested
    with looks() as found:
        do_run(request)  # it is done
    assert not found.opened


def test_features_are_read_once_whether_there_is_room_or_not(data: Path) -> None:
    videos = open_dataset(data).videos("train")
    heard: list[tuple[str, int, int, str]] = []
    for room, kept in ((None, True), (0, False)):
        with looks() as found:
            read = in_memory(videos, room, lambda *what: heard.append(what))
        assert found.opened == Counter(files(data, "train"))
        assert all(callable(video.source) is not kept for video in read)
    assert heard == 2 * [("read", number, TRAIN, "training videos") for number in range(1, TRAIN + 1)]


def test_training_without_room_opens_each_file_once_an_epoch(data: Path, tmp_path: Path) -> None:
    videos = open_dataset(data).videos("train")
    method = AcmNet(AcmNetOptions(), 16, 3)
    spec = AcmNet.recipe("thumos14").train.model_copy(update={"epochs": EPOCHS, "temporal_length": 16, "batch_size": 2})
    with looks() as found:
        train(method, videos, spec, 0, tmp_path / "run", {})
    assert found.opened == Counter(dict.fromkeys(files(data, "train"), EPOCHS))
    assert not found.parsed


def test_a_header_is_parsed_again_where_the_file_changed(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", 1)
    with looks() as found:
        assert [read_header(path).rows for _ in range(3)] == [6, 6, 6]
        assert found.parsed == {path: 1}
        save(path, 1, rows=9)
        assert read_header(path).rows == 9
        # replaced by one of equal size and time: the inode tells
        status = path.stat()
        np.save(tmp_path / "other.npy", np.ones((4, 9), np.float32))
        os.utime(tmp_path / "other.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tmp_path / "other.npy").replace(path)
        assert path.stat().st_size == status.st_size
        assert read_header(path).rows == 4
        assert found.parsed == {path: 3}


def test_values_are_mapped_by_the_header_of_the_file_that_is_opened(tmp_path: Path) -> None:
    path = save(tmp_path / "v.npy", 1)
    read_header(path)
    replacement = np.arange(36, dtype=np.float32).reshape(9, 4)
    for array in (
        replacement,
        np.asfortranarray(replacement),
        replacement.astype(">f4"),
        replacement.astype("float16"),
    ):
        np.save(path, array)
        mapped = map_features(path)
        np.testing.assert_array_equal(mapped, replacement)
        assert mapped.dtype == array.dtype
        assert not mapped.flags.writeable


def test_a_digest_is_computed_again_where_the_file_changed(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.npy", number) for number, name in enumerate("abc")]
    for cache in (None, tmp_path / "cache.json"):
        first = file_digests(paths, cache)
        with looks() as found:
            assert file_digests(paths, cache) == first
            assert not found.digested
            save(paths[1], 7)
            second = file_digests(paths, cache)
        assert found.digested == {paths[1]: 1}
        assert {path for path in paths if first[path] != second[path]} == {paths[1]}
        save(paths[1], 1)


def test_what_another_process_added_to_the_cache_is_known(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.npy", number) for number, name in enumerate("ab")]
    cache, other = tmp_path / "cache.json", tmp_path / "other.json"
    file_digests(paths[:1], cache)
    file_digests(paths, other)
    other.replace(cache)
    with looks() as found:
        file_digests(paths, cache)
    assert not found.digested


def test_reading_says_how_far_it_is(data: Path) -> None:
    heard: list[tuple[str, int, int, str]] = []
    source = open_dataset(data, on_progress=lambda *what: heard.append(what))
    source.describe()
    assert [one for one in heard if one[0] == "digest"][-1] == ("digest", TRAIN + TEST, TRAIN + TEST, "files")
    source.videos("test")
    assert heard[-TEST:] == [("headers", number, TEST, "test videos") for number in range(1, TEST + 1)]
    heard.clear()
    verify(data, write_manifest=True, on_progress=lambda *what: heard.append(what))
    assert ("check", TRAIN, TRAIN, "train videos") in heard
    assert heard[-1][:1] == ("digest",)
