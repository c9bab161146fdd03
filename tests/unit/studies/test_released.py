"""Rescored detections: numbers by hand and by official evaluators, provenance always, nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import evaluate as evaluate_command
from harness.cli.options import Parser
from harness.data.descriptor import list_digest, shipped_descriptors
from harness.io.encoding import sha256
from harness.pages.formats import markdown_page
from harness.pages.released import rescored_page, score_rows, spread_rows
from harness.studies.detection_score import score_file
from harness.studies.released import Rescored, load_rescored, read_sources, rescore, write_rescored
from wstal.errors import MissingDataError, UserError
from wstal.evaluation import PROTOCOLS

STORED = Path(__file__).parents[3] / "results" / "rescored"
TRUTH = {
    "database": {
        video: {"subset": "test", "duration": 60, "annotations": [{"label": "Diving", "segment": segment}]}
        for video, segment in (("video_test_0000001", [10, 20]), ("video_test_0000270", [0, 10]))
    }
}
FOUND: dict[str, list[dict[str, Any]]] = {
    "video_test_0000001": [
        {"label": "Diving", "segment": [10, 20], "score": 0.9},
        {"label": "Diving", "segment": [40, 50], "score": 0.5},
    ],
    "video_test_0000270": [{"label": "Diving", "segment": [0, 5.5], "score": 0.7}],
}
TABLE = """
[{name}]
detections = "{name}.json"
annotations = "truth.json"
dataset = "two-videos"
method = "By hand"
source = "nobody, entry 1"
"""


def folder(path: Path, extra: str = "", **detections: Any) -> Path:
    """A sources file that lists these detection files, `good` where none is given; `extra` ends the last table."""
    (path / "truth.json").write_text(json.dumps(TRUTH))
    detections = detections or {"good": FOUND}
    for name, results in detections.items():
        (path / f"{name}.json").write_text(json.dumps({"results": results}))
    sources = path / "sources.toml"
    sources.write_text("".join(TABLE.format(name=name) for name in detections) + extra)
    return sources


def call(*arguments: object) -> int:
    parser = Parser()
    commands = parser.add_subparsers()
    evaluate_command.add(commands)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    return int(parsed.handle(parsed))


@pytest.fixture
def good(tmp_path: Path) -> Rescored:
    return rescore(folder(tmp_path))[0]


class TestByHand:
    def test_numbers(self, good: Rescored) -> None:
        # all 2 instances: hits at .9 and, up to tIoU 0.5, at .7 (tIoU 5.5 / 10), then a miss: AP 1, else 1/2
        everything = dict.fromkeys(("0.1", "0.2", "0.3", "0.4", "0.5"), 100.0) | dict.fromkeys(("0.6", "0.7"), 50.0)
        assert {name: one.mAP for name, one in good.metrics.items()} == {
            "anet": everything,
            # without video 270 its detection is false, after the only instance has been found
            "anet-210": dict.fromkeys(everything, 100.0),
            "anet-212": everything,
        }
        assert good.metrics["anet"].averages == pytest.approx({"0.1:0.5": 100, "0.3:0.7": 80, "0.1:0.7": 600 / 7})
        assert [(one.videos, one.instances, one.detections, one.unlisted) for one in good.metrics.values()] == [
            (2, 2, 3, 0), (1, 1, 3, 1), (2, 2, 3, 0),
        ]  # fmt: skip
        assert (good.detections.count, good.detections.videos) == (3, 2)
        assert (good.annotations.videos, good.annotations.instances) == (2, 2)

    def test_spread(self, good: Rescored) -> None:
        (row,) = spread_rows([good])
        assert (row["over"], row["protocols"]) == ("0.1:0.7", 3)
        assert (row["lowest under"], row["highest under"]) == ("anet, anet-212", "anet-210")
        assert [row["lowest"], row["highest"], row["spread"]] == pytest.approx([600 / 7, 100, 100 / 7])

    def test_one_protocol_has_no_spread(self, tmp_path: Path) -> None:
        (record,) = rescore(folder(tmp_path, 'protocols = ["anet-210"]\ntious = "0.1:0.1:0.9"\n'))
        assert list(record.metrics) == [record.headline] == ["anet-210"]
        (row,) = spread_rows([record])
        assert (row["over"], row["lowest"], row["highest"]) == ("0.1:0.9", 100, 100)
        assert row["spread"] is None

    def test_thresholds_without_a_usual_average_have_no_row(self, tmp_path: Path) -> None:
        records = rescore(folder(tmp_path, 'tious = "0.5"\n'))
        assert records[0].metrics["anet"].mAP == {"0.5": 100}
        assert spread_rows(records) == []

    def test_frame(self, tmp_path: Path) -> None:
        records = rescore(folder(tmp_path, 'published = "table_I/autoloc"\n', other=FOUND, good=FOUND))
        rows = score_rows(records)
        assert [(row["detections"], row["protocol"]) for row in rows] == [
            (name, protocol) for name in ("other", "good") for protocol in ("anet", "anet-210", "anet-212")
        ]
        assert [row["avg 0.1:0.7"] for row in rows] == pytest.approx(2 * [600 / 7, 100, 600 / 7])
        assert [row["0.7"] for row in rows] == 2 * [50, 100, 50]
        assert [row["unlisted"] for row in rows] == 2 * [0, 1, 0]
        # the reference belongs to the file that names it
        provenance = markdown_page(rescored_page(records)).split("## Provenance")[1].strip().splitlines()
        assert ["stands beside table_I/autoloc" in line for line in provenance] == [False, True]
        assert all("nobody, entry 1" in line for line in provenance)

    def test_ambiguous_intervals_beside_the_annotations_are_part_of_what_was_scored(
        self, good: Rescored, tmp_path: Path
    ) -> None:
        assert good.annotations.ambiguous_sha256 is None
        intervals = b"video_test_0000001 12 13\n"
        (tmp_path / "Ambiguous_test.txt").write_bytes(intervals)
        (record,) = rescore(tmp_path / "sources.toml")
        assert record.annotations.ambiguous_sha256 == sha256(intervals)
        assert set(record.metrics) == {one.name for one in PROTOCOLS.values() if one.defined_on != "activitynet13"}
        assert record.metrics["anet-210-ambiguous"].dropped == 1


@given(st.lists(st.floats(0, 100), min_size=2, max_size=len(PROTOCOLS)))
def test_the_spread_is_the_range_of_the_means(means: list[float]) -> None:
    (stored, *_), _ = load_rescored(STORED)
    one = next(iter(stored.metrics.values()))
    metrics = {
        name: one.model_copy(update={"averages": dict.fromkeys(one.averages, mean)})
        for name, mean in zip(PROTOCOLS, means, strict=False)
    }
    (row,) = spread_rows([stored.model_copy(update={"metrics": metrics, "headline": next(iter(metrics))})])
    assert row["spread"] == max(means) - min(means)
    given_by = dict(zip(PROTOCOLS, means, strict=False))
    for column, wanted in (("lowest", min(means)), ("highest", max(means))):
        assert row[column] == wanted
        assert row[f"{column} under"].split(", ") == [name for name, mean in given_by.items() if mean == wanted]


THUMOS14 = shipped_descriptors()["thumos14"]


class TestDataSet:
    """A data set's name is for files on its own classes and videos."""

    def of(self, path: Path, label: str, dataset: str | None = None, prefix: str = "") -> Rescored:
        database = {
            f"made_up_{number}": {
                "subset": "test", "duration": 60, "annotations": [{"label": name, "segment": [1, 9]}],
            }
            for number, name in enumerate(THUMOS14.classes if label == "thumos14" else [label])
        }  # fmt: skip
        found = {
            video: [entry["annotations"][0] | {"score": 1.0}]  # type: ignore[index]
            for video, entry in database.items()
        }
        sources = folder(path, prefix, good=found)
        (path / "truth.json").write_text(json.dumps({"database": database}))
        stated = f'dataset = "{dataset}"\n' if dataset else ""
        sources.write_text(sources.read_text().replace('dataset = "two-videos"\n', stated))
        return rescore(sources)[0]

    def test_generated_videos_with_its_classes_are_not_its_data(self, tmp_path: Path) -> None:
        for stated in (None, "thumos14", "thumos14-mine"):
            record = self.of(tmp_path, "thumos14", stated)
            assert record.dataset is None
            assert (
                record.unnamed
                == f"its 20 videos with 20 instances are no test list of {stated or 'thumos14'} that is known here"
            )
            assert record.annotations.list is None
            assert record.annotations.videos_sha256 == sha256("\n".join(sorted(
                f"made_up_{number}" for number in range(20))).encode())  # fmt: skip
        page = markdown_page(rescored_page([record]))
        assert "## Unknown data set" in page
        assert "data set unknown: its 20 videos with 20 instances are no test list" in page

    def test_a_name_of_ones_own_claims_nothing(self, tmp_path: Path) -> None:
        record = self.of(tmp_path, "Diving", "kitchen")
        assert (record.dataset, record.unnamed) == ("kitchen", None)

    def test_the_videos_decide(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"long_made_up_{number}" for number in range(20)]
        rule = THUMOS14.lists[1].model_copy(
            update={"sha256": list_digest(names), "name": "these", "exclude": (), "instances": (20,)}
        )
        known = {"thumos14": THUMOS14.model_copy(update={"lists": (rule,)})}
        for module in ("detection_score", "released"):
            monkeypatch.setattr(f"harness.studies.{module}.shipped_descriptors", lambda: known)
        record = self.of(tmp_path, "thumos14", prefix='video_prefix = "long_"\n')
        assert (record.dataset, record.unnamed, record.annotations.list) == ("thumos14", None, "these")
        assert self.of(tmp_path, "thumos14").dataset is None
        # a list of training videos is no test list
        training = rule.model_copy(update={"subset": "train"})
        known["thumos14"] = THUMOS14.model_copy(update={"lists": (training,)})
        assert self.of(tmp_path, "thumos14", prefix='video_prefix = "long_"\n').dataset is None


class TestRecord:
    def test_keeps_digests_and_names_but_neither_detections_nor_paths(self, good: Rescored, tmp_path: Path) -> None:
        (path,) = write_rescored([good], tmp_path / "rescored")
        assert path.name == "good.json"
        text = path.read_text()
        content = json.loads(text)
        assert content["detections"]["file"] == "good.json"
        assert content["detections"]["sha256"] == sha256((tmp_path / "good.json").read_bytes())
        assert content["annotations"]["sha256"] == sha256((tmp_path / "truth.json").read_bytes())
        assert str(tmp_path) not in text
        assert "video_test" not in text
        assert load_rescored(path.parent) == ([good], [])

    def test_the_same_bytes_again(self, good: Rescored, tmp_path: Path) -> None:
        results = tmp_path / "results"
        for _ in range(2):
            assert call("evaluate", tmp_path / "sources.toml", "--keep", "--results", results) == 0
            (path,) = (results / "rescored").iterdir()
            assert path.read_bytes() == write_rescored([good], tmp_path / "again")[0].read_bytes()

    def test_paths_are_relative_to_the_sources_file_or_to_data(self, good: Rescored, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        sources = shutil.copy(tmp_path / "sources.toml", elsewhere)
        assert rescore(Path(sources), tmp_path) == [good]
        with pytest.raises(MissingDataError, match=r"sources\.toml, \[good\]: .*truth\.json is not there"):
            rescore(Path(sources))

    def test_the_command_prints_its_records_and_the_numbers_of_evaluate(
        self, good: Rescored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert call("evaluate", tmp_path / "sources.toml", "--keep", "--results", tmp_path, "--json") == 0
        out, err = capsys.readouterr()
        (printed,) = json.loads(out)
        assert printed == json.loads((tmp_path / "rescored" / "good.json").read_text())
        assert err.splitlines()[-1] == "Done: 1 detection file(s) rescored"
        call(
            "evaluate", tmp_path / "good.json", "--annotations", tmp_path / "truth.json", "--protocol", "all", "--json"
        )
        evaluated = json.loads(capsys.readouterr().out)
        assert evaluated.keys() == printed["metrics"].keys()
        for protocol, metrics in evaluated.items():
            del metrics["per_class"]
            assert metrics.items() <= printed["metrics"][protocol].items()

    def test_the_command_shows_the_spread(
        self, good: Rescored, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        call("evaluate", tmp_path / "sources.toml", "--keep", "--results", tmp_path)
        lines = capsys.readouterr().out.splitlines()
        assert "good: By hand (nobody, entry 1)" in lines
        assert re.split(" {2,}", lines[-1].strip())[3:] == [
            "0.1:0.7", "3", "85.71", "anet, anet-212", "100.00", "anet-210", "14.29",
        ]  # fmt: skip


BOX = {"label": "Diving", "segment": [1, 2], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TABLE.replace('source = "nobody, entry 1"\n', ""), r"`bad\.source`: Field required.* who released the file"),
        (TABLE.replace("nobody, entry 1", "  "), r"`bad\.source`.* who released the file"),
        (TABLE + 'protocols = ["anet-211"]\n', r"`bad\.protocols\.0`: Unknown protocol 'anet-211'. Did you mean"),
        (TABLE + "protocols = []\n", r"`bad\.protocols`: .*at least 1 item"),
        (TABLE + 'protocols = ["segments-best"]\n', r"\[bad\]: .*bad\.json against .* needs the Ambiguous intervals"),
        (TABLE + 'tious = "0.7:0.1:0.1"\n', r"`bad\.tious`: .*increase"),
        (TABLE + 'subset = "tset"\n', r"\[bad\]: .*truth\.json has no subset 'tset'. It has: test"),
        (TABLE + 'published = "AutoLoc"\n', r"`bad\.published`"),
        (TABLE + 'published = "table_I/autolco"\n', r"`bad\.published`: .*'autolco'.*did you mean 'autoloc'\?"),
        (TABLE + 'published = "table_XI/autoloc"\n', r"`bad\.published`: .*'table_XI'.*did you mean"),
        (TABLE + 'published = "table_IX/training-750"\n', r"`bad\.published`: Table IX holds no mAPs"),
        (TABLE + 'protocols = ["anet", "anet"]\n', r"`bad\.protocols`: anet is named twice"),
        (TABLE.replace('"two-videos"', '"spread"'), r"`bad\.dataset`: .*called 'spread'"),
        (TABLE + 'sorce = "me"\n', r"`bad\.sorce`: Extra inputs"),
        (
            TABLE.replace('dataset = "two-videos"\n', ""),
            r"\[bad\]: The classes of .*truth\.json .* State `dataset`",
        ),
        (TABLE.replace("{name}.json", "none.json"), r"\[bad\]: .*none\.json is not there"),
        (TABLE.replace("[{name}]", '["../{name}"]'), r"`\.\./bad\.\[key\]`"),
        ("[good]", r"not valid TOML"),
        (b"\xff", r"not valid TOML"),
    ],
)
def test_bad_sources_are_refused_before_anything_is_written(tmp_path: Path, content: str | bytes, message: str) -> None:
    sources = folder(tmp_path, good=FOUND, bad=FOUND)
    first = TABLE.format(name="good").encode()
    sources.write_bytes(first + (content if isinstance(content, bytes) else content.replace("{name}", "bad").encode()))
    with pytest.raises(UserError, match=message) as caught:
        call("evaluate", sources, "--keep", "--results", tmp_path / "results")
    assert str(sources) in str(caught.value)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"video_test_0000001": [BOX | {"score": float("nan")}]}, "video_test_0000001: .*not finite.* Correct it"),
        ({"video_test_0000001": [BOX | {"label": "Divign"}]}, "unknown label 'Divign'; did you mean 'Diving'"),
        ({"video_test_0000001": []}, "has no detections.* Check how it was written"),
        ({"elsewhere": [BOX]}, "Not one of the 1 detections is in a video .* Choose the subset"),
        ([BOX], "has no `results` object"),
    ],
)
def test_bad_detections_are_refused_before_anything_is_written(tmp_path: Path, results: Any, message: str) -> None:
    sources = folder(tmp_path, good=FOUND, bad=results)
    with pytest.raises(UserError, match=message) as caught:
        call("evaluate", sources, "--keep", "--results", tmp_path / "results")
    assert str(caught.value).startswith(f"{sources}, [bad]: {tmp_path / 'bad.json'}")
    assert not (tmp_path / "results").exists()


def test_a_sources_file_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"none\.toml is not there"):
        read_sources(tmp_path / "none.toml")
    path = tmp_path / "sources.toml"
    for content, message in (("", "lists no detection file"), ('good = "good.json"', r"`good`: .*one table \[name\]")):
        path.write_text(content)
        with pytest.raises(UserError, match=rf"sources\.toml.* {message}"):
            read_sources(path)


def changed(record: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy of a record with the value at a place (`metrics.anet.mAP.0;5`) replaced; None removes it."""
    copy = json.loads(json.dumps(record))
    *path, last = (key.replace(";", ".") for key in place.split("."))
    part = copy
    for key in path:
        part = part[key]
    part[last] = value
    if value is None:
        del part[last]
    return copy


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("metrics.anet.mAP.0;5", float("nan"), "finite number"),
        ("metrics.anet.mAP.0;5", 120, "less than or equal to 100"),
        ("metrics.anet.mAP.0;5", -0.1, "greater than or equal to 0"),
        ("metrics.anet.mAP.0;5", "51", "valid number"),
        ("metrics.anet.mAP.half", 50, "pattern"),
        ("metrics.anet.mAP", {}, "at least 1 item"),
        ("metrics.anet.averages.0;1:0;7", 99, "the average 0.1:0.7 is 99.0, its tIoUs' mean 85.7"),
        ("metrics.anet.averages.0;2:0;4", 99, "the average 0.2:0.4"),
        ("metrics.anet.videos", -1, "greater than or equal to 0"),
        ("metrics.anet.videos", "2", "valid integer"),
        ("detections.count", 2.0, "valid integer"),
        ("source", "x\ud800", "text that UTF-8 cannot encode"),
        ("metrics.anet-210.mAP.0;8", 50, "different tIoUs"),
        ("metrics.anet-211", {}, "Unknown protocol 'anet-211'"),
        ("metrics", {}, "at least 1 item"),
        ("headline", "thumos14-kit-2014", "none of its protocols"),
        ("source", " ", "source"),
        ("source", None, "source"),
        ("detections.sha256", "abc", "pattern"),
        ("published", "table I, AutoLoc", "published"),
        ("published", "table_I/autolco", "did you mean 'autoloc'"),
        ("published", "table_IX/training-750", "Table IX holds no mAPs"),
        ("dataset", "thumos14", "its data set is thumos14, its videos are no known list"),
        ("dataset", "thumos14-mine", "its videos are no known list"),
        ("unnamed", "no reason", "one of `dataset` and `unnamed`"),
        ("annotations.videos_sha256", "abc", "pattern"),
        ("note_", "", "Extra inputs"),
        ("schema", 2, "is of schema 2; this version reads 1. Update wstal-bench"),
        ("schema", "1", "schema"),
        ("schema", None, "schema"),
        ("name", "other", "the record of 'other'"),
    ],
)
def test_a_bad_record_is_refused_by_name_and_the_others_load(
    good: Rescored, tmp_path: Path, place: str, value: Any, message: str
) -> None:
    (path,) = write_rescored([good], tmp_path / "rescored")
    bad = path.with_name("bad.json")
    record = changed(json.loads(path.read_text()), "name", "bad")
    bad.write_text(json.dumps(changed(record, place, value)))
    records, ((refused, why),) = load_rescored(path.parent)
    assert (records, refused) == ([good], bad)
    assert why.startswith(str(bad))
    assert message in why


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"{}"])
def test_a_file_that_is_no_record_is_refused(good: Rescored, tmp_path: Path, content: bytes) -> None:
    (path,) = write_rescored([good], tmp_path / "rescored")
    path.with_name("bad.json").write_bytes(content)
    records, ((refused, why),) = load_rescored(path.parent)
    assert (records, refused.name) == ([good], "bad.json")
    assert why.startswith(str(refused))


def test_no_folder_no_records(tmp_path: Path) -> None:
    assert load_rescored(tmp_path / "none") == ([], [])
    assert score_rows([]) == []
    assert spread_rows([]) == []


class TestStored:
    def test_every_source_has_its_record_and_every_record_its_source(self) -> None:
        records, refused = load_rescored(STORED)
        assert refused == []
        sources = read_sources(STORED / "sources.toml")
        assert {record.name for record in records} == sources.keys()
        for record in records:
            source = sources[record.name]
            assert record.detections.file == source.detections.name
            for field in ("method", "source", "features", "note", "published"):
                assert getattr(record, field) == getattr(source, field)

    def test_what_is_known_of_their_videos(self) -> None:
        lists = {record.name: (record.dataset, record.annotations.list) for record in load_rescored(STORED)[0]}
        assert lists["autoloc"] == ("thumos14", "thumos14-test-210")
        assert lists["stpn"] == lists["pmil-base"] == ("thumos14", "thumos14-test-212")

    def test_the_published_row_of_autoloc_to_the_digit(self) -> None:
        records, _ = load_rescored(STORED)
        (record,) = (record for record in records if record.published == "table_I/autoloc")
        metrics = record.metrics[record.headline]
        shown = [f"{metrics.mAP[tiou]:.1f}" for tiou in ("0.3", "0.4", "0.5", "0.6", "0.7")]
        assert shown == ["35.8", "29.0", "21.2", "13.4", "5.8"]
        assert f"{metrics.averages['0.3:0.7']:.1f}" == "21.0"


@pytest.mark.shared
class TestReal:
    def test_the_stored_records_are_what_the_files_give(self, shared: Path) -> None:
        stored = {record.name: record for record in load_rescored(STORED)[0]}
        for record in rescore(STORED / "sources.toml", shared / "data"):
            before, after = stored[record.name].model_dump(), record.model_dump()
            for protocol in before["metrics"].keys() | after["metrics"].keys():
                for part in ("mAP", "averages"):
                    numbers = (side["metrics"][protocol].pop(part) for side in (before, after))
                    assert next(numbers) == pytest.approx(next(numbers), abs=1e-9)
            assert before == after

    @pytest.mark.parametrize(
        ("name", "protocol", "tious", "official", "mean"),
        [
            ("stpn", "anet-210", None, "52.1223 44.1963 34.6982 26.0620 17.7048 10.0886 4.9884", "27.1229"),
            ("stpn", "anet-212", None, "51.4449 43.6138 34.1752 25.6097 17.3365 9.8372 4.8397", "26.6939"),
            ("stpn", "thumos14-kit-2014", "0.1:0.1:0.5", "47.9718 42.7132 34.9933 26.9259 19.6006", None),
            ("pmil-base", "anet-210", None, "69.1045 63.1278 54.2449 44.5892 33.9444 23.2795 12.4661", "42.9652"),
            ("pmil-base", "anet-212", None, "68.3462 62.4073 53.5995 44.0275 33.4807 22.9182 12.2328", "42.4303"),
            ("pmil-base", "thumos14-kit-2014", "0.1:0.1:0.5", "19.1 17.5 15.6 13.3 11.3", None),
            (
                "autoloc", "anet", "0.1:0.1:0.9",
                "46.6737 41.7076 35.7702 29.0167 21.2054 13.3954 5.7969 1.5566 0.2086", None,
            ),
            (
                "imatge", "anet", None,
                "22.2200 20.3786 19.1930 17.3389 15.3792 13.5681 11.5491 9.1380 6.4389 3.6686", "13.8872",
            ),
        ],
    )  # fmt: skip
    def test_official_digits(
        self, shared: Path, tmp_path: Path, name: str, protocol: str, tious: str | None, official: str, mean: str | None
    ) -> None:
        text = (STORED / "sources.toml").read_text()
        table = next(part for part in text.split("\n\n") if part.startswith(f"[{name}]"))
        (tmp_path / "one.toml").write_text(
            f'{table}\nprotocols = ["{protocol}"]\n' + (f'tious = "{tious}"\n' if tious else "")
        )
        (record,) = rescore(tmp_path / "one.toml", shared / "data")
        metrics = record.metrics[protocol]
        digits = len(official.split()[0].split(".")[1])
        assert [f"{value:.{digits}f}" for value in metrics.mAP.values()] == official.split()
        if mean:
            assert f"{next(reversed(metrics.averages.values())):.4f}" == mean


@pytest.mark.parametrize(
    ("scale", "remark"),
    [
        (1.0, None),
        (30.0, "67% of the detections start after their video ends: are the times frames?"),
        (1 / 60, "100% of the detections end within 1.01 s: are the times fractions of the video?"),
    ],
)
def test_times_of_another_unit_are_remarked(tmp_path: Path, scale: float, remark: str | None) -> None:
    folder(tmp_path)
    found = {
        video: [row | {"segment": [scale * time for time in row["segment"]]} for row in rows]
        for video, rows in FOUND.items()
    }
    (tmp_path / "found.json").write_text(json.dumps({"results": found}))
    remarks = score_file(tmp_path / "found.json", tmp_path / "truth.json").remarks
    assert [line for line in remarks if "are the times" in line] == ([remark] if remark else [])


def test_names_that_differ_by_a_prefix(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "v.json").write_text(json.dumps({"results": {f"v_{video}": rows for video, rows in FOUND.items()}}))
    with pytest.raises(UserError, match="--strip-prefix v_"):
        score_file(tmp_path / "v.json", tmp_path / "truth.json")
    scored = score_file(tmp_path / "v.json", tmp_path / "truth.json", strip_prefix="v_")
    assert scored.found_videos == 2
    (tmp_path / "v.json").write_text(json.dumps({"results": {"v_a": FOUND["video_test_0000001"], "a": []}}))
    with pytest.raises(UserError, match="two videos have the same name"):
        score_file(tmp_path / "v.json", tmp_path / "truth.json", strip_prefix="v_")


def test_a_prefix_is_left_off_where_it_is_one(tmp_path: Path) -> None:
    """Of ActivityNet's ids some begin with the prefix that others put before all of them."""
    entry = {"subset": "test", "duration": 60, "annotations": [{"label": "Diving", "segment": [1, 2]}]}
    (tmp_path / "truth.json").write_text(json.dumps({"database": dict.fromkeys(("a", "b", "v_c"), entry)}))
    results = {f"v_{name}": FOUND["video_test_0000001"] for name in ("a", "v_c")}
    (tmp_path / "found.json").write_text(json.dumps({"results": results}))
    for strip in ("v_", "x_"):
        if strip == "x_":
            (tmp_path / "found.json").write_text(json.dumps({"results": {"a": results["v_a"], "v_c": results["v_a"]}}))
        scored = score_file(tmp_path / "found.json", tmp_path / "truth.json", strip_prefix=strip)
        assert (scored.truth.videos, sorted(scored.detections.videos)) == (("a", "b", "v_c"), ["a", "v_c"])


def test_protocols_of_another_data_set_go_without_saying(tmp_path: Path) -> None:
    folder(tmp_path)
    left_out = score_file(tmp_path / "good.json", tmp_path / "truth.json").left_out
    assert "anet-4427" in left_out  # nothing tells what these classes are
    database = {
        f"video_test_{number:07d}": {
            "subset": "test", "duration": 60, "annotations": [{"label": label, "segment": [10, 20]}],
        }
        for number, label in enumerate(THUMOS14.classes)
    }  # fmt: skip
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    left_out = score_file(tmp_path / "good.json", tmp_path / "truth.json").left_out
    assert "anet-210-ambiguous" in left_out
    assert "anet-4427" not in left_out


def test_what_the_readers_remark_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = {video: [row | {"score": str(row["score"])} for row in rows] for video, rows in FOUND.items()}
    assert call("evaluate", folder(tmp_path, good=text), "--keep", "--results", tmp_path / "results") == 0
    assert capsys.readouterr().err.count("times or scores are text") == 1
