"""Requests: the same run on the command line, as JSON, and in another folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.inputs import run_request
from harness.runs.request import DataRequest, RunRequest
from tests.helpers.sweeps import parse
from wstal.errors import UserError

# what the command line of a system can hold; some words look like options
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda word: word != "--"
)
names = words.filter(lambda word: not word.startswith("-"))
paths = st.one_of(words, st.just("b\udcff")).map(Path)
data_requests = st.builds(
    DataRequest,
    data=st.none() | paths,
    annotations=st.none() | paths,
    descriptor=st.none() | words | st.just("c\udcff.toml"),
    labels=st.sampled_from(["official", "annotations"]),
    streams=st.none() | st.lists(names, min_size=1, max_size=3).map(tuple),
    allow_missing=st.booleans(),
    held_out=st.none() | st.floats(allow_nan=False),
    full_size=st.booleans(),
)
common = {
    "seed": st.integers(),
    "data": data_requests,
    "overrides": st.lists(st.builds("{}={}".format, words, words), max_size=3).map(tuple),
    "store": paths,
    "device": words,
    "threads": st.none() | st.integers(1, 1024),
}
requests = st.builds(RunRequest, method=words, **common) | st.builds(RunRequest, row=words, **common)


@given(requests)
def test_the_command_line_of_a_request_parses_into_it(request: RunRequest) -> None:
    assert run_request(parse("run", *request.to_argv())) == request


@given(requests)
def test_a_line_for_a_shell_is_the_same_command(request: RunRequest) -> None:
    assert shlex.split(request.command_line()) == ["wstal-bench", "run", *request.to_argv()]


@given(requests, st.none() | words)
def test_json_gives_the_request_back(request: RunRequest, expected: str | None) -> None:
    request = request.model_copy(update={"expected": expected})
    text = request.to_json()
    assert text.isascii()
    assert RunRequest.from_json(text) == request


def test_the_command_line_without_options_is_the_default() -> None:
    assert run_request(parse("run", "--method", "acmnet")) == RunRequest(method="acmnet")


def test_absolute_paths_name_the_same_files_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = DataRequest(data=Path("d"), annotations=Path("a"), descriptor="x/dataset.toml")
    request = RunRequest(method="acmnet", store=Path("s"), data=data).absolute()
    assert (request.store, request.data.data, request.data.annotations) == (
        tmp_path / "s",
        tmp_path / "d",
        tmp_path / "a",
    )
    assert request.data.descriptor == str(tmp_path / "x" / "dataset.toml")
    assert DataRequest(descriptor="thumos14").absolute() == DataRequest(descriptor="thumos14")


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"method": "a", "row": "b"}, "not both"), ({"methods": "a"}, "Extra"), ({"data": {"folder": "x"}}, "Extra")],
)
def test_a_request_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunRequest.model_validate(fields)


def test_a_template_is_no_run() -> None:
    request = RunRequest()
    with pytest.raises(UserError, match="a method or a row"):
        request.plan(request.data.open(request.store))
