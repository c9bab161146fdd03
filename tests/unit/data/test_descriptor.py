import hashlib
import json
from pathlib import Path

import pytest

from harness.data.descriptor import (
    DatasetDescriptor,
    ListRule,
    find_descriptor,
    list_digest,
    read_descriptor,
    shipped_descriptors,
)
from wstal.errors import UserError
from wstal.evaluation import THUMOS_TIOUS
from wstal.evaluation.protocols import PROTOCOLS, default_tious

MINIMAL = 'name = "mine"\ntitle = "Mine"\nextractor = "I3D"\nfps = 30.0\n'


def read(folder: Path, text: str) -> DatasetDescriptor:
    (folder / "dataset.toml").write_text(text)
    return read_descriptor(folder / "dataset.toml")


def test_digest_rule_by_hand() -> None:
    assert list_digest(["b", "a"]) == hashlib.sha256(b"a\nb").hexdigest()


def test_shipped_names() -> None:
    known = ["activitynet12", "activitynet13", "fineaction", "thumos14", "thumos14-r2plus1d", "ucf-untrimmed"]
    assert list(shipped_descriptors()) == known


def test_each_method_samples_as_its_own_paper_does() -> None:
    # a length stated here would override what STPN, UntrimmedNet and others take from a video
    assert all(descriptor.sample_length is None for descriptor in shipped_descriptors().values())


def test_headline_protocols_and_thresholds_are_those_of_the_evaluator() -> None:
    for descriptor in shipped_descriptors().values():
        assert descriptor.headline in PROTOCOLS
        assert descriptor.thresholds == default_tious(descriptor.family)


def test_thresholds_are_the_floats_of_the_evaluator(tmp_path: Path) -> None:
    assert read(tmp_path, MINIMAL).thresholds == THUMOS_TIOUS
    assert read(tmp_path, MINIMAL + 'tious = "0.1:0.1:0.3"\n').thresholds == (0.1, 0.2, 0.1 + 2 * 0.1)
    assert read(tmp_path, MINIMAL + 'tious = "0.1,0.2,0.3"\n').thresholds == (0.1, 0.2, 0.3)


def test_fineaction_groups_each_spelling_of_its_classes(shared: Path) -> None:
    fineaction = find_descriptor("fineaction")
    assert len(fineaction.coarse_classes) == 14
    names = [name for group in fineaction.coarse_classes.values() for name in group]
    official = [name for name in names if not name.startswith("fine-") and name != "braid hair "]
    spelt = [name + " " if name == "braid hair" else name for name in official]
    numbers = [name for name in names if name.startswith("fine-")]
    assert [list_digest(group) for group in (official, spelt, numbers)] == list(fineaction.class_digests)
    # HAAN's own file, number of a class to that of its coarse class
    published = json.loads((shared / "data/fineaction/fine_to_coarse_mappings.json").read_text())
    for coarse, group in enumerate(fineaction.coarse_classes.values()):
        ids = [name for name in group if name.startswith("fine-")]
        assert ids == [f"fine-{int(fine):03d}" for fine, parent in published.items() if parent == coarse]
        assert [official[numbers.index(number)] for number in ids] == [name for name in group if name in official]


def test_a_class_of_two_coarse_classes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="`coarse_classes` names one twice"):
        read(tmp_path, MINIMAL + '[coarse_classes]\na = ["run"]\nb = ["run"]\n')


def test_family_is_before_the_dash() -> None:
    assert find_descriptor("thumos14-r2plus1d").family == "thumos14"


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(MINIMAL)
    assert find_descriptor(tmp_path / "my.toml").name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "strid = 4\n", "`strid`: unknown key, did you mean 'stride'?"),
        (MINIMAL + "zzz = 4\n", "`zzz`: unknown key, remove it"),
        (MINIMAL + "stride = 0\n", "`stride`: Input should be greater than 0"),
        (MINIMAL + 'fps_file = "fps.json"\n', "state one of `fps` and `fps_file`"),
        (MINIMAL + "resampled = true\n", "state `fps` or `fps_file`, or else `resampled = true`"),
        (MINIMAL.replace("fps = 30.0\n", ""), "state `fps` or `fps_file`"),
        (MINIMAL + 'tious = "0.5,0.3"\n', "`tious`: Expected `tious` to increase within (0, 1], got [0.5, 0.3]."),
        (MINIMAL + 'tious = "0.1:0.2:0.6"\n', "`tious`: Expected whole steps (of 0.001 or more) from 0.1 to 0.6"),
        (MINIMAL + 'tious = "0.9:0.1:0.1"\n', "`tious`: Expected `tious` to increase within (0, 1], got '0.9:"),
        (MINIMAL + "tious = [0.3, 0.5]\n", '`tious`: expected text, as "0.1:0.1:0.7" or "0.3,0.5,0.7"'),
        (MINIMAL + 'headline = "anet-21"\n', "`headline`: Unknown protocol 'anet-21'. Did you mean anet-21"),
        (MINIMAL.replace("30.0", "inf"), "`fps`: Input should be a finite number"),
        (MINIMAL.replace("30.0", "nan"), "`fps`: Input should be a finite number"),
        (MINIMAL.replace("30.0", "1e308"), "`fps`: Input should be less than 10000"),
        (MINIMAL.replace("30.0", "-1"), "`fps`: Input should be greater than or equal to 0.001"),
        ('extends = ["a"]\nname = "x"\n', "`extends`: unknown data set ['a']"),
        (MINIMAL + 'classes = ["a", "a"]\n', "`classes` names one twice"),
        (MINIMAL + 'classes = ["a\\nb"]\n', "`classes.0`: the text: 'a\\nb' has control characters"),
        (MINIMAL.replace('"mine"', f'"{"x" * 101}"'), "`name`: it is longer than 100 characters"),
        (MINIMAL + "snippet_frames = 1000001\n", "`snippet_frames`: Input should be less than or equal to 1000000"),
        (MINIMAL + 'classes = "run"\n', "`classes`: Input should be a list"),
        (MINIMAL + 'stride = "16"\n', "`stride`: Input should be a valid integer"),
        (MINIMAL.replace("30.0", '"30"'), "`fps`: Input should be a valid number"),
        (MINIMAL + "resampled = 1\n", "`resampled`: Input should be a valid boolean"),
        (MINIMAL + 'test = { annotation = [], folders = ["../x"] }\n', "`test.folders.0`: expected a folder below"),
        (MINIMAL + f"stride = {'9' * 5000}\n", "is not valid TOML (Exceeds the limit"),
        (MINIMAL + f"a{'.a' * 5000} = 1\n", "is not valid TOML (a key of more than 64 parts)"),
        (MINIMAL + f"a = {'[' * 5000}", "is not valid TOML ("),
        (MINIMAL + "\n".join(f"unknown{number} = 1" for number in range(1000)), "`unknown8`: unknown key, remove it."),
        (MINIMAL + "fps = \n", "is not valid TOML"),
        ('extends = "thumos15"\nname = "x"\n', "`extends`: unknown data set 'thumos15'"),
        ('extends = "thumos14"\nfps = 30.0\n', "state a `name` of its own"),
        ('extends = "thumos14"\nname = "interpretations"\n', "'interpretations' is the name of other pages"),
    ],
)
def test_messages(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "dataset.toml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_unknown_name_gets_a_hint() -> None:
    with pytest.raises(UserError, match=r"Unknown data set 'thumos41'; did you mean 'thumos14'\?"):
        find_descriptor("thumos41")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no descriptor .*absent\.toml\. Check the path"):
        find_descriptor(tmp_path / "absent.toml")


def test_extends_takes_what_is_not_stated(tmp_path: Path) -> None:
    mine = read(tmp_path, 'extends = "thumos14-r2plus1d"\nname = "thumos14-mine"\nfps = 30.0\nstride = 4\n')
    base = shipped_descriptors()["thumos14-r2plus1d"]
    assert (mine.fps, mine.fps_file, mine.stride, mine.name) == (30.0, None, 4, "thumos14-mine")
    assert (mine.classes, mine.lists, mine.family) == (base.classes, base.lists, "thumos14")


def test_extends_alone_is_the_shipped_one(tmp_path: Path) -> None:
    assert read(tmp_path, 'extends = "thumos14"\n') == shipped_descriptors()["thumos14"]


def test_a_list_applies_only_where_its_digest_holds() -> None:
    rule = next(rule for rule in shipped_descriptors()["thumos14"].lists if rule.name == "thumos14-test-212")
    assert rule.apply(["video_test_0000004"]) is None


def test_a_list_applies_only_to_its_number_of_instances() -> None:
    rule = ListRule(name="two", subset="test", count=2, sha256=list_digest(["a", "b"]), instances=(3, 5))
    assert rule.apply(["b", "a"], {"a": 1, "b": 2, "c": 9}) == ("a", "b")
    assert rule.apply(["b", "a"], {"a": 4, "b": 1}) == ("a", "b")
    assert rule.apply(["b", "a"], {"a": 1}) is None


@pytest.mark.shared
@pytest.mark.parametrize("name", ["thumos14", "thumos14-r2plus1d"])
def test_lists_hold_on_the_real_annotations(shared: Path, name: str) -> None:
    database = json.loads((shared / "data/thumos14/annotations.json").read_text())["database"]
    for rule in shipped_descriptors()[name].lists:
        subset = "validation" if rule.subset == "train" else "test"
        videos = rule.apply([video for video, entry in database.items() if entry["subset"] == subset])
        assert videos is not None, rule.name
        assert len(videos) == rule.count
        # an annotation file that also lists the video with ambiguous intervals only gives the same list
        assert rule.apply([*videos, *rule.exclude]) == videos


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "name"), [("train_200", "train-200"), ("test_212", "test-212"), ("test_210", "test-210")]
)
def test_list_digests_are_those_of_the_circulating_lists(shared: Path, file: str, name: str) -> None:
    rule = next(rule for rule in shipped_descriptors()["thumos14"].lists if rule.name == f"thumos14-{name}")
    assert list_digest((shared / f"data/thumos14/{file}.txt").read_text().split()) == rule.sha256


@pytest.mark.shared
def test_activitynet_lists_are_those_of_its_two_annotation_files(shared: Path) -> None:
    rules = shipped_descriptors()["activitynet13"].lists
    for file, expected in (
        ("activitynet13/annotations.json", {"training": "training-10024", "validation": "validation-4926"}),
        ("activitynet13_acmnet/gt.json", {"train": "training-9032", "val": "validation-4427"}),
    ):
        database = json.loads((shared / "data" / file).read_text())["database"]
        for subset, name in expected.items():
            entries = {video: entry for video, entry in database.items() if entry["subset"] == subset}
            counts = {video: len(entry["annotations"]) for video, entry in entries.items()}
            for videos in (counts, {video.removeprefix("v_"): count for video, count in counts.items()}):
                found = [rule for rule in rules if rule.apply(videos, videos) is not None]
                if file.endswith("gt.json") or videos == counts:
                    assert [(rule.name, rule.count) for rule in found] == [(f"activitynet13-{name}", len(videos))]


@pytest.mark.shared
def test_r2plus1d_lists_are_the_files_there(shared: Path) -> None:
    rules = {rule.name: rule for rule in shipped_descriptors()["thumos14-r2plus1d"].lists}
    folder = shared / "data/thumos14_r2plus1d/features"
    train = [path.stem for path in (folder / "train/rgb").glob("*.npy")]
    test = [path.stem for path in (folder / "test/rgb").glob("*.npy")]
    assert list_digest(train) == rules["thumos14-r2plus1d-train-185"].sha256
    assert list_digest(test) == rules["thumos14-r2plus1d-197"].sha256


@pytest.mark.shared
@pytest.mark.parametrize(("folder", "name"), [("thumos14", "thumos14"), ("activitynet13", "activitynet13")])
def test_class_digests_are_those_of_the_annotations(shared: Path, folder: str, name: str) -> None:
    database = json.loads((shared / "data" / folder / "annotations.json").read_text())["database"]
    classes = {item["label"] for entry in database.values() for item in entry["annotations"]}
    assert list_digest(classes) in shipped_descriptors()[name].class_sets
