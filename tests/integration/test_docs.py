"""Tests of the documents: their examples are installed as a third party's and used, the paths they name exist."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.cli.main import build_parser, main
from tests.helpers.small_data import write_tiny

ROOT = Path(__file__).parents[2]


def read(page: str) -> str:
    return (ROOT / page).read_text()


TEXT = read("docs/add-a-method.md")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for language, block in BLOCKS
    if language == "sh"
    for line in block.splitlines()
    if line.startswith("wstal-bench ")
]
QUICK = ["train.epochs=12", "train.temporal_length=32", "train.learning_rate=3e-3", "train.batch_size=3"]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the document's files and those of an installer to a folder: on the path, it is an installed package."""
    folder = tmp_path_factory.mktemp("package")
    for language, block in BLOCKS:
        if language != "sh":
            file = folder / block.splitlines()[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(block)
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    installed = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    installed.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (installed / "METADATA").write_text(head)
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("\n".join(sections))
    return folder


def python(package: Path, folder: Path, *arguments: object) -> str:
    """Run a fresh interpreter that sees the package and return its standard output."""
    path = os.pathsep.join([str(package), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_method_stands_among_the_others(package: Path, tmp_path: Path) -> None:
    rows = json.loads(python(package, tmp_path, "-m", "harness", "ls", "methods", "--json"))
    found = {row.pop("method"): list(row.values()) for row in rows}
    assert found["attention-mil"] == ["my_wstal.attention_mil:AttentionMil"]
    assert "acmnet" in found


def test_the_documents_own_test_passes(package: Path, tmp_path: Path) -> None:
    shown = python(package, tmp_path, "-m", "pytest", "-q", package / "tests")
    assert re.search(r"^1 passed", shown, re.MULTILINE)


def test_it_runs_on_the_embedded_data(package: Path, tmp_path: Path) -> None:
    run = ["run", "--method", "attention-mil", "--store", tmp_path / "store", "--json", "--set"]
    quick = ["train.epochs=2", "train.temporal_length=16", "train.test_length=16"]
    record = json.loads(python(package, tmp_path, "-m", "harness", *run, *quick))
    assert record["synthetic"]
    assert record["status"] == "done"
    assert (Path(record["run"]) / "detections.json.gz").exists()


def test_every_command_is_one_that_the_parser_takes() -> None:
    assert len(COMMANDS) >= 8
    assert {command[0] for command in COMMANDS} >= {"ls", "run", "compare", "reproduce"}
    for command in COMMANDS:
        build_parser().parse_args(command)


def test_the_commands_work_in_their_order(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run all but the main job, unchanged, on small data and schedules."""
    data = write_tiny(tmp_path / "data")
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        words = [word.replace("~/thumos14", str(data)) for word in command]
        words = [re.sub("^runs/runs/(synthetic|thumos14)-", "runs/runs/tiny-", word) for word in words]
        words = [file for word in words for file in (map(str, Path().glob(word)) if "*" in word else [word])]
        if command[0] == "run":
            words += [*([] if "--data" in words else ["--data", str(data)]), "--set", *QUICK]
        if command[0] != "reproduce":
            assert main(words) == 0, (words, capsys.readouterr().err)
    records = [json.loads(file.read_text()) for file in Path("runs/runs").glob("*/record.json")]
    learned = {(record["method"], record["data"]["name"]): record["metrics"]["anet"]["averages"] for record in records}
    assert learned.keys() == {("attention-mil", "tiny"), ("acmnet", "tiny"), ("attention-mil", "tiny-held-out")}
    assert learned["attention-mil", "tiny"]["0.1:0.7"] > 30  # three classes: chance is far below
    assert "Attention MIL" in capsys.readouterr().out


# a word in capitals stands for a name
NAMED = [
    (page, path)
    for page in ("docs/architecture.md", "CONTRIBUTING.md")
    for path in dict.fromkeys(
        re.findall(r"`((?:harness|wstal|baselines|tests|results|docs)/[^`\s]*|[\w-]+\.(?:txt|toml))`", read(page))
        + [f"{Path(page).parent}/{target}" for target in re.findall(r"\]\(([\w/.-]+)\)", read(page))]
    )
    # the second and third are being built
    if path not in ("dataset.toml", "harness/runs/request.py", "harness/runs/worker.py")
]


def test_every_path_in_the_guides_exists() -> None:
    assert len(NAMED) > 60
    missing = [
        f"{page}: {path}"
        for page, path in NAMED
        if not list(ROOT.glob(re.sub(r"\b[A-Z_]{4,}\b", "*", path).rstrip("/")))
    ]
    assert missing == []


def test_the_picture_shows_every_room_and_no_other() -> None:
    (picture,) = re.findall(r"^```mermaid\n(.*?)^```$", read("docs/architecture.md"), re.MULTILINE | re.DOTALL)
    shown = {
        name.removesuffix(".py") for label in re.findall(r'\w\[\(?"([^":]+)', picture) for name in label.split(", ")
    }
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    rooms = {
        room
        for contract in contracts
        for layer in contract.get("layers", [])
        if "containers" in contract
        for room in layer.split(" | ")
    }
    assert len(rooms) > 25
    assert shown == rooms | {"baselines", "shipped"}
