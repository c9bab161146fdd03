"""Command `tune`, through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.helpers.small_data import write_tiny

QUICK = ("--set", "train.temporal_length=16", "train.test_length=16", "--threads", "1", "--jobs", "1")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_pairs_are_tried_on_held_out_training_videos_alone(cli, tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    shutil.rmtree(data / "features" / "test")  # never read
    where = ("--data", data, "--store", tmp_path / "runs", *QUICK)
    code, out, err = cli("tune", "wtalc", *where, "--rates", "1e-3", "1e-2", "--epochs", "1", "3")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["rate", "epochs"]
    assert {tuple(line.split()[:2]) for line in lines[2:]} == {
        ("0.001", "1"), ("0.001", "3"), ("0.01", "1"), ("0.01", "3"),
    }  # fmt: skip
    values = [float(line.split()[2]) for line in lines[2:]]
    assert values == sorted(values, reverse=True)
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs" / "runs").glob("*/record.json")]
    assert {record["data"]["name"] for record in records} == {"tiny-held-out"}
    assert ("To train on all: wstal-bench run --method wtalc" in err) == (values[0] > 0)
    assert "--held-out" not in err.split("To train on all")[-1]


def test_the_default_pairs_lie_around_the_recipe(cli, tiny: Path, tmp_path: Path) -> None:
    code, out, _ = cli("tune", "random", "--data", tiny, "--store", tmp_path, *QUICK, "--epochs", "2", "--json")
    assert code == 0
    rates = sorted(row["rate"] for row in json.loads(out))
    assert len(rates) == 3
    assert rates[0] == pytest.approx(rates[1] / 3, rel=0.02)
    assert rates[2] == pytest.approx(rates[1] * 3, rel=0.02)


def test_a_grid_given_twice_is_refused(cli, tiny: Path, tmp_path: Path) -> None:
    code, _, err = cli("tune", "acmnet", "--data", tiny, "--store", tmp_path, "--set", "train.epochs=3")
    assert code == 2
    assert "give --rates and --epochs" in err


@pytest.mark.parametrize(("option", "value"), [("--rates", "0"), ("--rates", "x"), ("--epochs", "0")])
def test_a_grid_of_no_numbers_is_refused_by_the_parser(
    cli, tiny: Path, tmp_path: Path, option: str, value: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli("tune", "acmnet", "--data", tiny, "--store", tmp_path, option, value)


def test_labels_without_times_cannot_choose(cli, tiny: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    content = json.loads((data / "annotations.json").read_text())
    for video in content["database"].values():
        for annotation in video["annotations"]:
            del annotation["segment"]
    (data / "annotations.json").write_text(json.dumps(content))
    code, _, err = cli("tune", "acmnet", "--data", data, "--store", tmp_path / "s")
    assert code == 2
    assert "cannot be scored" in err
    assert not (tmp_path / "s" / "runs").exists()
