"""Repeats of runs: what is compared and how, and what the command reports of those that do not agree."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from harness.cli import debug
from harness.cli.former import current_words
from harness.cli.main import main
from harness.cli.options import Parser
from harness.data.opening import open_dataset
from harness.data.tiny import write_tiny
from harness.runs.request import DataRequest, RunRequest
from harness.studies.determinism import QUICK, WITHOUT, Run, check_determinism, compare
from tests.helpers.records import as_record, make_record
from wstal.errors import MissingDataError, RunError, UserError

Arrays = Mapping[str, Any]
WEIGHTS: Arrays = {"a": [1.0, 2.0], "b": [3.0]}


def leave(
    folder: Path, weights: Arrays = WEIGHTS, seed: int = 0, threads: int = 1, device: str = "cpu", **changes: Any
) -> Run:
    """A run's folder: these weights, scores that follow from them, and a record."""
    folder.mkdir(parents=True)
    arrays = {name: np.array(values, dtype=np.float32) for name, values in weights.items()}
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(arrays))
    scores = {f"v/{name}": array * 2 for name, array in arrays.items()}
    (folder / "scores.safetensors").write_bytes(safetensors.numpy.save(scores))
    for name in ("detections.json.gz", "history.json", "diagnostics.svg"):
        (folder / name).write_text(name)
    record = make_record(seed=seed, **changes)
    record["environment"] |= {"threads": threads, "device": device}
    # by digest, as a run states them; what the check trusts is the files
    record["artefacts"] = dict.fromkeys(record["artefacts"], "0" * 64)
    (folder / "record.json").write_text(json.dumps(record))
    return Run(folder, as_record(record), threads, frozenset())


def test_equal_files_agree(tmp_path: Path) -> None:
    pair = compare("repeat", leave(tmp_path / "1"), leave(tmp_path / "2"))
    assert (pair.first, pair.tensor, pair.weights, pair.scores, pair.points) == (None, None, None, None, 0)
    assert pair.good
    assert pair.detections == 9


def test_the_first_tensor_and_the_largest_difference_are_told(tmp_path: Path) -> None:
    other = {"a": [1.0, 2.25], "b": [2.5], "c": [math.nan]}
    pair = compare("repeat", leave(tmp_path / "1", dict(WEIGHTS) | {"c": [math.nan]}), leave(tmp_path / "2", other))
    assert (pair.first, pair.tensor, pair.weights, pair.scores) == ("weights.safetensors", "a", 0.5, 1.0)
    assert not pair.good
    assert pair.complaint.startswith("weights.safetensors differs first, in a, by 5.0e-01 at most; ")


@pytest.mark.parametrize(
    ("values", "difference"), [([-0.0], 0.0), ([math.nan], math.inf), ([0.0, 0.0], None), ([[0.0]], None)]
)
def test_bits_count_not_values(tmp_path: Path, values: Any, difference: float | None) -> None:
    pair = compare("repeat", leave(tmp_path / "1", {"a": [0.0]}), leave(tmp_path / "2", {"a": values}))
    assert (pair.tensor, pair.weights) == ("a", difference)
    assert not pair.good


def test_a_tensor_of_one_run_only(tmp_path: Path) -> None:
    pair = compare("repeat", leave(tmp_path / "1"), leave(tmp_path / "2", dict(WEIGHTS) | {"c": [0.0]}))
    assert (pair.tensor, pair.weights) == ("c", None)


@pytest.mark.parametrize("name", ["detections.json.gz", "history.json", "diagnostics.svg"])
def test_every_file_counts(tmp_path: Path, name: str) -> None:
    runs = leave(tmp_path / "1"), leave(tmp_path / "2")
    (runs[1].folder / name).write_text("other")
    assert compare("repeat", *runs).first == name


def test_what_explains_a_difference_is_named(tmp_path: Path) -> None:
    runs = leave(tmp_path / "1"), leave(tmp_path / "2")
    runs[1].record.environment.__dict__["commit"] = "d" * 40
    (runs[1].folder / "record.json").write_text(json.dumps(runs[1].record.to_json()))
    pair = compare("repeat", *runs)
    assert pair.first == "record.json"
    assert "commit" in pair.reason


def test_the_numbers_of_threads_and_seeds_in_a_record_are_no_difference_of_runs(tmp_path: Path) -> None:
    """Record and figure name them; only repeats have to agree in these too."""
    one, threads, seed = leave(tmp_path / "1"), leave(tmp_path / "2", threads=2), leave(tmp_path / "3", seed=1)
    (threads.folder / "diagnostics.svg").write_text("2 threads")
    pair = compare("threads", one, threads)
    assert (pair.first, pair.good, pair.beside) == (None, True, "1 thread(s)")
    # and so a seed that decides nothing is found
    control = compare("seed", one, seed)
    assert (control.first, control.good) == (None, False)
    assert "the seed decides nothing" in control.complaint


def test_the_move_of_the_headline_is_told(tmp_path: Path) -> None:
    one, other = leave(tmp_path / "1"), leave(tmp_path / "2", {"a": [5.0]}, value=23.0)
    assert compare("threads", one, other).points == 3


def play(monkeypatch: pytest.MonkeyPatch, folder: Path, runs: list[Run | str]) -> Path:
    """Let workers leave these runs one after the other, or do what a shell script says.

    Returns:
        The file with the request of each.
    """
    for number, one in enumerate(runs):
        script = one if isinstance(one, str) else f'mkdir -p "$store/runs" && cp -r {one.folder} "$store/runs/run"'
        (folder / f"{number}.sh").write_text(script)
    program = folder / "program"
    program.write_text(
        f'#!/bin/sh\necho "$3" >> {folder}/got\nnumber=$(($(wc -l < {folder}/got) - 1))\n'
        """store=$(echo "$3" | sed 's/.*"store": "\\([^"]*\\)".*/\\1/')\n"""
        f". {folder}/$number.sh\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    return folder / "got"


def test_runs_differ_in_what_they_should_and_in_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs: list[Run | str] = [
        leave(tmp_path / "a"), leave(tmp_path / "b"), leave(tmp_path / "c", {"a": [1.0, 2.5]}, threads=2),
        leave(tmp_path / "d", {"a": [1.0, 2.5]}, threads=2), leave(tmp_path / "e", {"a": [9.0]}, seed=8),
    ]  # fmt: skip
    got = play(monkeypatch, tmp_path, runs)
    said: list[str] = []
    asked = RunRequest(method="acmnet", seed=7, data=DataRequest(data=Path("here")), overrides=("train.epochs=3",))
    check = check_determinism(asked, (1, 2), 2, said.append)
    requests = [RunRequest.from_json(line) for line in got.read_text().splitlines()]
    assert [(request.seed, request.threads) for request in requests] == [(7, 1), (7, 1), (7, 2), (7, 2), (8, 1)]
    fixed = {"seed": 7, "threads": None, "store": asked.store}
    assert all(request.model_copy(update=fixed) == asked for request in requests)
    stores = {request.store for request in requests}
    assert len(stores) == len(said) == 5
    assert not any(store.exists() for store in stores)
    found = [(pair.kind, pair.threads, pair.first, pair.good) for pair in check.pairs]
    assert found == [
        ("repeat", 1, None, True), ("repeat", 2, None, True), ("seed", 1, "weights.safetensors", True),
        ("threads", 2, "weights.safetensors", True),
    ]  # fmt: skip
    assert (check.device, check.operators) == ("cpu", None)


def run(*words: str) -> int:
    """The command by its own parser."""
    parser = Parser()
    debug.add(parser.add_subparsers(parser_class=Parser))
    arguments: argparse.Namespace = parser.parse_args(current_words(words))
    return int(arguments.handle(arguments))


def test_repeats_that_differ_are_reported_with_exit_code_5(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control = leave(tmp_path / "c", {"a": [9.0]}, seed=1)
    play(monkeypatch, tmp_path, [leave(tmp_path / "a"), leave(tmp_path / "b", {"a": [1.0, 2.5], "b": [3.0]}), control])
    assert run("debug", "determinism", "acmnet", "--threads", "1") == 5
    said = capsys.readouterr()
    assert "acmnet, 1 thread(s), beside its repeat: weights.safetensors differs first, in a, by 5.0e-01" in said.err
    assert "DIFFER" in said.out
    assert said.err.splitlines()[-1] == "Done: 1 method(s), 0 of 1 pairs of repeats agree, 1 finding(s)"


def test_a_seed_that_decides_nothing_is_told_with_exit_code_5(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    play(monkeypatch, tmp_path, [leave(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))])
    assert run("debug", "determinism", "acmnet", "--threads", "1", "--json") == 5
    said = capsys.readouterr()
    pairs = json.loads(said.out)["acmnet"]["pairs"]
    assert [(pair["kind"], pair["good"]) for pair in pairs] == [("repeat", True), ("seed", False)]
    assert "the seed decides nothing" in said.err


def test_a_run_that_fails_does_not_keep_the_others_from_being_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.registry.method_entries", lambda: {"acmnet": None, "rmgcl-gksa": None})
    monkeypatch.setattr("harness.registry.load_method", lambda name: None)
    fails = "echo 'Traceback: put_ does not have a deterministic implementation' >&2; exit 1"
    good = [leave(tmp_path / "a"), leave(tmp_path / "b"), leave(tmp_path / "c", {"a": [9.0]}, seed=1)]
    play(monkeypatch, tmp_path, [fails, *good])
    with pytest.raises(RunError, match=r"^acmnet: `wstal-bench run --method acmnet .*put_ does not have"):
        run("debug", "determinism", "all", "--threads", "1")
    assert "rmgcl-gksa" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "kind"), [(2, UserError), (3, MissingDataError)])
def test_bad_input_is_told_once_in_the_words_of_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int, kind: type[UserError]
) -> None:
    play(monkeypatch, tmp_path, [f"echo some note >&2; echo 'error: the list has an error: none' >&2; exit {code}"])
    with pytest.raises(kind, match=r"^the list has an error: none$"):
        run("debug", "determinism", "acmnet", "--data", "here")


def test_torchs_warning_names_an_operator() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with pytest.warns(UserWarning, match=WITHOUT) as caught:
            torch.zeros(3).put_(torch.tensor([1, 1]), torch.ones(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert WITHOUT.findall(str(caught[0].message)) == ["put_"]


def test_operators_are_collected_where_the_runs_were_on_cuda(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run warns; what is on record says that it was on CUDA."""
    runs = [
        leave(tmp_path / "a", device="Some GPU"),
        leave(tmp_path / "b", device="Some GPU"),
        leave(tmp_path / "c", {"a": [9.0]}, seed=1, device="Some GPU"),
    ]
    words = "does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True"
    scripts = [
        f'echo "x.py:1: UserWarning: {name} {words}" >&2; mkdir -p "$store/runs"; cp -r {one.folder} "$store/runs/run"'
        for name, one in zip(("cumsum_cuda_kernel", "put_", "put_"), runs, strict=True)
    ]
    play(monkeypatch, tmp_path, list(scripts))
    assert run("debug", "determinism", "acmnet", "--threads", "1") == 0
    assert "acmnet on Some GPU: cumsum_cuda_kernel, put_\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--threads", "1,1"], "distinct"), (["--threads", "0"], "whole number"), (["--threads", ""], "whole number"),
        (["--repeats", "0"], "whole number"),
    ],
)  # fmt: skip
def test_wrong_options(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("debug", "determinism", "acmnet", *words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"), [(["acmnet", "--repeats", "1"], "2 or more"), (["acmnett"], "did you mean 'acmnet'")]
)
def test_what_cannot_be_checked(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run("debug", "determinism", *words)


def test_without_data_the_runs_are_short_and_on_small_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [leave(tmp_path / "a"), leave(tmp_path / "b"), leave(tmp_path / "c", {"a": [9.0]}, seed=1)]
    got = play(monkeypatch, tmp_path, [*runs, *runs])
    words = ("debug", "determinism", "acmnet", "--threads", "1", "--set", "train.epochs=2")
    assert run(*words) == run(*words, "--data", "here") == 0
    requests = [RunRequest.from_json(line) for line in got.read_text().splitlines()]
    (data,) = {request.data.data for request in requests[:3]}
    assert data is not None
    assert not data.exists()
    assert {request.overrides for request in requests[:3]} == {(*QUICK, "train.epochs=2")}
    assert {request.data for request in requests[3:]} == {DataRequest(data=Path("here"))}
    assert {request.overrides for request in requests[3:]} == {("train.epochs=2",)}


def test_the_small_data_are_whole_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = (write_tiny(tmp_path / name) for name in "ab")
    data = open_dataset(first)
    assert [len(data.videos(subset)) for subset in ("train", "test")] == [24, 8]
    assert data.describe()["digests"] == open_dataset(second).describe()["digests"]


def test_the_former_name_does_the_same_and_says_the_new_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [leave(tmp_path / "a"), leave(tmp_path / "b"), leave(tmp_path / "c", {"a": [9.0]}, seed=1)]
    play(monkeypatch, tmp_path, [*runs, *runs])
    assert run("audit", "--json", "determinism", "acmnet", "--threads", "1", "--twins", "2") == 0
    out, err = capsys.readouterr()
    assert "`wstal-bench audit determinism` is now called `wstal-bench debug determinism`" in err
    assert run("debug", "determinism", "acmnet", "--threads", "1", "--json") == 0
    assert capsys.readouterr().out == out


@pytest.mark.slow
def test_a_real_method_agrees_with_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """RMGCL+GKSA, with its memory bank at work in the second epoch."""
    short = ["--threads", "1", "--set", "train.epochs=2", "train.temporal_length=16"]
    assert main(["debug", "determinism", "rmgcl-gksa", "--json", *short]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)["rmgcl-gksa"]
    assert [(pair["kind"], pair["first"], pair["good"]) for pair in found["pairs"]] == [
        ("repeat", None, True), ("seed", "weights.safetensors", True),
    ]  # fmt: skip
    assert all(pair["detections"] > 0 for pair in found["pairs"])
    assert found["operators"] is None or found["device"] != "cpu"
