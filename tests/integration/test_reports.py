"""People's own files: each reported case is rebuilt small, and what is right is what the commands give."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.main import main

pytestmark = pytest.mark.shared
Cli = Callable[..., tuple[int, str, str]]
Case = Callable[[str], Path]
TOY = ("--method", "whole-video", "--set", "train.epochs=1", "--threads", 1)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def case(shared: Path, tmp_path: Path) -> Case:
    """Build a case in a temporary folder, with the shared data where its `build.py` looks for them."""

    def build(name: str) -> Path:
        origin = shared / "reports" / name
        if not origin.is_dir():
            pytest.skip(f"there is no case {origin}; set WSTAL_SHARED to the shared folder")
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        for file in origin.glob("*.*"):
            shutil.copy(file, folder)
        (tmp_path / "data").symlink_to(shared / "data")
        subprocess.run([sys.executable, folder / "build.py"], check=True, capture_output=True)
        return folder / "in"

    return build


def metrics(printed: str, protocol: str = "anet") -> dict[str, Any]:
    return json.loads(printed)[protocol]


def stpn(shared: Path) -> Path:
    return shared / "data/detections/thumos14_stpn.json"


class TestTimesAsStrings:  # 01
    @pytest.mark.parametrize(
        ("detections", "annotations"), [("det", "gt"), ("det_strings", "gt_numbers"), ("det_strings", "gt")]
    )
    def test_numbers_in_quotes_are_numbers(self, cli: Cli, case: Case, detections: str, annotations: str) -> None:
        folder = case("01_times_as_strings")
        code, out, err = cli(
            "evaluate", folder / f"{detections}.json", "--annotations", folder / f"{annotations}.json", "--json"
        )
        assert code == 0
        assert set(metrics(out)["mAP"].values()) == {100.0}
        for name in (detections, annotations):
            assert err.count(f"{name}.json: times or scores are text") == ("strings" in name or name == "gt")

    def test_a_file_without_subsets_is_one_subset(self, cli: Cli, case: Case) -> None:
        folder = case("01_times_as_strings")
        code, out, err = cli("evaluate", folder / "det.json", "--annotations", folder / "gt_no_subset.json", "--json")
        assert (code, set(metrics(out)["mAP"].values())) == (0, {100.0})
        assert "no video names its `subset`" in err

    def test_the_circulating_form_of_thumos14_gives_the_released_numbers(
        self, cli: Cli, shared: Path, tmp_path: Path
    ) -> None:
        database = json.loads((shared / "data/thumos14/annotations.json").read_text())["database"]
        for entry in database.values():
            del entry["duration"]
            entry["subset"] = {"validation": "train", "test": "test"}[entry["subset"]]
            for annotation in entry["annotations"]:
                annotation["segment"] = [str(time) for time in annotation["segment"]]
        (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
        code, out, _ = cli(
            "evaluate", stpn(shared), "--annotations", tmp_path / "gt.json", "--protocol", "anet-210", "--json"
        )
        found = metrics(out, "anet-210")
        assert code == 0
        assert [f"{found['mAP'][tiou]:.4f}" for tiou in ("0.1", "0.7")] == ["52.1223", "4.9884"]
        assert f"{found['averages']['0.1:0.7']:.4f}" == "27.1229"


class TestZeroLength:  # 02
    def test_an_instance_that_nothing_can_match_counts(self, cli: Cli, case: Case) -> None:
        folder = case("02_activitynet12_zero_length")
        code, out, err = cli("evaluate", folder / "det.json", "--annotations", folder / "anet12.json", "--json")
        assert code == 0
        found = metrics(out)
        assert found["instances"] == 101
        assert set(found["mAP"].values()) == {99.5}
        assert set(found["per_class"]["Archery"].values()) == {50.0}
        assert err.count("end where they start") == 1


class TestWeakLabels:  # 15
    def test_training_needs_no_times(self, cli: Cli, case: Case, tmp_path: Path) -> None:
        folder = case("15_weak_labels_without_times")
        code, _, err = cli("data", "verify", folder)
        assert code == 0
        assert "2 labels have no times" in err
        code, out, _ = cli("run", "--data", folder, *TOY, "--store", tmp_path / "store", "--json")
        assert code == 0
        assert json.loads(out)["metrics"]["anet"]["instances"] == 2


class TestProtocolNames:  # 03
    def test_ambiguous_as_a_class_is_the_ambiguous_intervals(self, cli: Cli, case: Case, shared: Path) -> None:
        folder = case("03_thumos_protocols_on_other_truth")
        code, out, err = cli(
            "evaluate", stpn(shared), "--annotations", folder / "ambiguous_as_class.json", "--protocol", "all", "--json"
        )
        given = shared / "data/thumos14"
        official = cli("evaluate", stpn(shared), "--annotations", given, "--protocol", "all", "--json")
        assert code == 0
        assert json.loads(out) == json.loads(official[1])
        assert "`Ambiguous`" in err

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("one_instance_a_video", "212 instances"),
            ("trailing_blank", "'Diving ' is no class of THUMOS14"),
        ],
    )
    def test_another_truth_has_no_protocol_of_thumos14(
        self, cli: Cli, case: Case, shared: Path, name: str, reason: str
    ) -> None:
        folder = case("03_thumos_protocols_on_other_truth")
        truth = folder / f"{name}.json"
        code, out, err = cli("evaluate", stpn(shared), "--annotations", truth, "--protocol", "all", "--json")
        assert (code, list(json.loads(out))) == (0, ["anet"])
        assert "anet-210, " in err
        assert reason in err
        code, _, err = cli("evaluate", stpn(shared), "--annotations", truth, "--protocol", "anet-212")
        assert code == 2
        assert reason in err

    def test_rescoring_names_no_list(self, cli: Cli, case: Case, shared: Path, tmp_path: Path) -> None:
        folder = case("03_thumos_protocols_on_other_truth")
        (tmp_path / "sources.toml").write_text(
            f'[one]\ndetections = "{stpn(shared)}"\nannotations = "{folder / "one_instance_a_video.json"}"\n'
            'method = "STPN"\nsource = "test"\ndataset = "thumos14"\n'
        )
        code, out, _ = cli("evaluate", tmp_path / "sources.toml", "--keep", "--results", tmp_path / "results", "--json")
        (record,) = json.loads(out)
        assert code == 0
        assert record["annotations"]["list"] is None
        assert record["dataset"] is None
        assert "212 instances" in record["unnamed"]
        assert list(record["metrics"]) == ["anet"]


class TestMessages:  # 16
    def test_annotations_may_be_gzip(self, cli: Cli, case: Case) -> None:
        folder = case("16_misleading_remedies")
        code, out, _ = cli("evaluate", folder / "det.json", "--annotations", folder / "gt.json.gz", "--json")
        assert (code, set(metrics(out)["mAP"].values())) == (0, {100.0})

    def test_the_one_json_of_a_folder_is_named(self, cli: Cli, case: Case) -> None:
        folder = case("16_misleading_remedies")
        code, _, err = cli("evaluate", folder / "det.json", "--annotations", folder / "only_gt")
        assert code == 3
        assert f"--annotations {folder / 'only_gt/gt.json'}" in err

    @pytest.mark.parametrize(
        ("arguments", "kind", "remedy"),
        [
            (("evaluate", "det.json", "--annotations", "gt.csv"), "CSV", "ActivityNet-style JSON"),
            (("evaluate", "kit.txt", "--annotations", "only_gt/gt.json"), "text", "ActivityNet-style JSON"),
        ],
    )
    def test_a_file_of_another_kind_is_named(
        self, cli: Cli, case: Case, arguments: tuple[str, ...], kind: str, remedy: str
    ) -> None:
        folder = case("16_misleading_remedies")
        code, _, err = cli(*(word if word[0] == "-" or word == "evaluate" else folder / word for word in arguments))
        assert code == 2
        assert kind in err
        assert remedy in err
        assert "cut off" not in err

    def test_features_of_another_kind_are_named(self, cli: Cli, case: Case) -> None:
        folder = case("16_misleading_remedies")
        code, _, err = cli("data", "verify", folder / "dict")
        assert code == 2
        assert "dictionary" in err
        assert "data convert" not in err
        code, _, err = cli("data", "verify", folder / "npz")
        assert code == 3
        assert "2 .npz files" in err


class TestNamesAroundTheId:  # 12
    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("vprefix", 'file_prefixes = ["v_"]'),
            ("mp4", 'file_suffixes = [".mp4"]'),
            ("viashin", 'file_suffixes = ["_rgb", "_flow"]'),
        ],
    )
    def test_the_difference_and_its_key_are_named_and_help(
        self, cli: Cli, case: Case, tmp_path: Path, name: str, key: str
    ) -> None:
        folder = case("12_names_around_the_id") / name
        code, _, err = cli("data", "verify", folder)
        assert code != 0
        assert key in err
        descriptor = 'name = "toy"\ntitle = "Toy"\nextractor = "x"\nfps = 25.0\n' + key + "\n"
        (folder / "dataset.toml").write_text(descriptor)
        code, _, err = cli("data", "verify", folder)
        assert code == 0, err
        code, out, err = cli("run", "--data", folder, *TOY, "--store", tmp_path / "store", "--json")
        assert code == 0, err
        assert json.loads(out)["data"]["streams"] == (["rgb", "flow"] if name == "viashin" else ["rgb"])

    def test_detections_of_the_same_videos_with_a_prefix(self, cli: Cli, case: Case) -> None:
        folder = case("12_names_around_the_id")
        asked = ("evaluate", folder / "det.json", "--annotations", folder / "gt.json")
        code, _, err = cli(*asked)
        assert code == 2
        assert "--strip-prefix v_" in err
        code, out, _ = cli(*asked, "--strip-prefix", "v_", "--json")
        assert (code, set(metrics(out)["mAP"].values())) == (0, {100.0})


class TestSubsetNames:  # 04
    def test_thumos14_test_videos_are_never_the_training_set(self, cli: Cli, case: Case, tmp_path: Path) -> None:
        folder = case("04_thumos_split_names")
        code, out, err = cli("data", "verify", folder / "otad", "--json")
        checks = {check["check"]: check for check in json.loads(out)["checks"]}
        assert checks["train: features there (thumos14-r2plus1d-train-185)"]["passed"] == 185
        assert checks["test: features there (thumos14-r2plus1d-197)"]["passed"] == 197
        assert code == 0, err

    def test_val_beside_test_is_the_training_part(self, cli: Cli, case: Case, shared: Path) -> None:
        folder = case("04_thumos_split_names")
        code, _, err = cli("data", "verify", shared / "data/thumos14_r2plus1d", "--annotations", folder / "val")
        assert code == 0, err


class TestClock:  # 07
    def test_durations_that_are_not_there_are_told(self, cli: Cli, case: Case) -> None:
        folder = case("07_no_durations")
        code, out, err = cli("data", "verify", folder / "clock_wrong_by_4", "--json")
        assert code == 2
        checks = {check["check"]: check for check in json.loads(out)["checks"]}
        assert checks["train: rows fit durations"]["passed"] == 0
        assert checks["train: durations known"]["failed"] == 2
        assert "start after the last row" in checks["test: instances within the rows"]["failures"][0][1]
        assert "all is well" not in err
        code, _, err = cli("run", "--data", folder / "clock_wrong_by_4", *TOY, "--store", folder / "store")
        assert code == 2
        assert "stride" in err

    def test_resampled_features_need_durations(self, cli: Cli, case: Case) -> None:
        folder = case("07_no_durations")
        code, out, _ = cli("data", "verify", folder / "resampled_without_duration", "--json")
        checks = {check["check"]: check for check in json.loads(out)["checks"]}
        assert code == 2
        assert checks["train: rows fit durations"]["failed"] == 2

    def test_resampled_features_of_two_lengths_are_noted(self, cli: Cli, case: Case) -> None:
        folder = case("07_no_durations")
        code, out, err = cli("data", "verify", folder / "resampled_but_lengths_differ")
        assert code == 0
        assert "100 and 107" in out + err
        assert "all is well" not in err


class TestShapes:  # 10
    def test_transposed_features_are_told_and_shapes_printed(self, cli: Cli, case: Case, tmp_path: Path) -> None:
        folder = case("10_resampled_transposed")
        code, _, err = cli("data", "verify", folder)
        assert code == 0
        assert "2048 rows of 100 columns" in err
        assert "[width, T]" in err
        assert "all is well" not in err
        _, _, err = cli("run", "--data", folder, *TOY, "--store", tmp_path / "store")
        assert "2048 rows of 100 columns" in err
        assert "[width, T]" in err


class TestBlankFeatures:  # 19
    def test_zeros_and_copies_are_notes(self, cli: Cli, case: Case) -> None:
        folder = case("19_blank_features")
        code, out, err = cli("data", "verify", folder, "--json")
        checks = {check["check"]: check["failures"] for check in json.loads(out)["checks"] if check["failures"]}
        assert code == 0
        assert [name for name, _ in checks["train: features vary"]] == ["train0 rgb", "train0 flow"]
        assert {problem for _, problem in checks["train: features vary"]} == {"all zero"}
        assert [name for name, _ in checks["test: streams differ"]] == ["test0", "test1", "test2"]
        assert "all is well" not in err


class TestOtherUnits:  # 14
    @pytest.mark.parametrize(("name", "remark"), [("frames", "frames"), ("fractions", "fractions")])
    def test_times_in_frames_or_fractions_are_remarked(
        self, cli: Cli, case: Case, shared: Path, name: str, remark: str
    ) -> None:
        folder = case("14_other_units")
        truth = shared / "data/thumos14"
        code, out, err = cli("evaluate", folder / f"{name}.json", "--annotations", truth, "--json")
        assert code == 0
        assert metrics(out)["averages"]["0.1:0.7"] < 0.02
        assert f"are the times {remark}" in err
        assert "are the times" not in cli("evaluate", stpn(shared), "--annotations", truth)[2]


class TestGapsBetweenWindows:  # 11
    def test_a_stride_longer_than_the_window_is_a_clock(self, cli: Cli, case: Case, tmp_path: Path) -> None:
        folder = case("11_gaps_between_windows")
        code, _, err = cli("data", "verify", folder)
        assert code == 0, err
        code, _, err = cli("run", "--data", folder, *TOY, "--store", tmp_path / "store")
        assert code == 0, err


class TestFlowOneRowLess:  # 18
    def test_the_longer_stream_is_cut_on_request_and_the_key_is_named(
        self, cli: Cli, case: Case, tmp_path: Path
    ) -> None:
        folder = case("18_flow_one_row_less")
        code, _, err = cli("run", "--data", folder, *TOY, "--store", tmp_path / "store")
        assert code == 2
        assert "cut_streams = true" in err
        code, out, _ = cli("data", "verify", folder, "--json")
        assert code == 2
        assert "cut_streams = true" in out
        descriptor = 'name = "toy"\ntitle = "Toy"\nextractor = "x"\nfps = 25.0\ncut_streams = true\n'
        (folder / "dataset.toml").write_text(descriptor)
        code, _, err = cli("data", "verify", folder)
        assert code == 0, err
        code, _, err = cli("run", "--data", folder, *TOY, "--store", tmp_path / "store")
        assert code == 0, err


class TestConvert:  # 06
    def test_a_converted_folder_verifies_and_runs(self, cli: Cli, case: Case, tmp_path: Path) -> None:
        folder = case("06_convert_101_classes")
        arrays = folder / "Thumos14-Annotations"
        code, _, err = cli(
            "data", "convert", "--annotations", arrays, "--features", folder / "feats.npy", "--out", folder / "out"
        )
        assert code == 0, err
        assert (folder / "out/Ambiguous_test.txt").read_bytes() == (arrays / "Ambiguous_test.txt").read_bytes()
        code, _, err = cli("data", "verify", folder / "out")
        assert code == 0, err
        code, out, err = cli("run", "--data", folder / "out", *TOY, "--store", tmp_path / "store", "--json")
        assert code == 0, err
        assert list(json.loads(out)["metrics"]) == ["anet"]

    def test_the_chain_on_the_real_arrays(self, cli: Cli, shared: Path, tmp_path: Path) -> None:
        arrays = shared / "data/wtalc_annotations"
        durations = np.load(arrays / "duration.npy").reshape(-1)
        blocks = np.empty(len(durations), object)
        for i, seconds in enumerate(durations.tolist()):
            blocks[i] = np.random.default_rng(i).random((max(1, int(seconds * 25 / 16)), 4), dtype=np.float32)
        np.save(tmp_path / "features.npy", blocks, allow_pickle=True)
        out = tmp_path / "out"
        options = ("--annotations", arrays, "--features", tmp_path / "features.npy", "--out", out)
        assert cli("data", "convert", *options)[0] == 0
        code, _, err = cli("data", "verify", out)
        assert code == 0, err
        code, printed, err = cli("run", "--data", out, *TOY, "--store", tmp_path / "store", "--json")
        assert code == 0, err
        record = json.loads(printed)
        assert record["data"]["test"]["list"] == "thumos14-test-210"
        assert list(record["metrics"]) == ["anet", "anet-210", "anet-212"]
        assert record["metrics"]["anet-210"]["instances"] == 3311


class TestBroadcastProducts:  # 17
    def test_they_are_no_silent_zero(self, case: Case) -> None:
        from torch import Tensor, nn, randn

        from harness.studies.cost_counting import count
        from wstal.errors import RunError

        class Mul(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x[:, :, None] * x[:, None]).sum(-1)

        class Mat(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x @ x.transpose(1, 2)

        x = randn(1, 32, 64)
        assert count(Mat(), (x,), "m").macs == 65536
        with pytest.raises(RunError, match="broadcast"):
            count(Mul(), (x,), "m")
