"""What a hostile file cannot do: run code, lead out of a folder, speak in a page; and no command uses the network."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from pydantic import ValidationError

from harness.data import detections
from harness.data.annotations import read_annotations
from harness.data.convert import convert
from harness.data.descriptor import read_descriptor
from harness.data.detections import read_detections
from harness.data.feature_layout import FeatureFolder
from harness.data.features import read_header
from harness.data.opening import open_dataset
from harness.data.unpickle import load_array
from harness.data.verify import MANIFEST, verify
from harness.io import reading as files
from harness.io.encoding import canonical_json, pretty_json, sha256
from harness.io.reading import parse_json, read_json, read_toml
from harness.io.text import check_text
from harness.pages.site import Results, render
from harness.records.files import MATCHES, RECORD
from harness.records.matches import ABOUT, read_matches
from harness.records.reading import list_records, read_record
from harness.records.run_folder import FinishedRun
from harness.records.schema import Record, run_id
from harness.runs.plans import Plan
from harness.studies.released import read_sources
from tests.helpers.html import Reader
from tests.helpers.records import make_record
from tests.helpers.small_data import write_tiny
from wstal.errors import MissingDataError, StoreError, UserError

ROOT = Path(__file__).parents[3]
PACKAGES = ("wstal", "baselines", "harness")
SOURCES = {path: ast.parse(path.read_text()) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}

OUTSIDE = ("../escaped", "..", ".", "", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "x" * 300)


# what the code may do


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """Every call in the packages, with the dotted name that is called."""
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func), node


def imports() -> Iterator[tuple[Path, str]]:
    for path, tree in SOURCES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield path, str(node.module)
                yield from ((path, f"{node.module}.{alias.name}") for alias in node.names)


def test_nothing_unpickles_runs_or_unpacks_what_a_file_says() -> None:
    unpickle = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle", "yaml"}
    assert {path.name for path, name in imports() if name.split(".")[0] in unpickle} == {"unpickle.py"}
    archives = {"tarfile", "zipfile", "shutil.unpack_archive"}
    # the archive of one digest, of which one member is read in memory
    readers = [path for path, name in imports() if name in archives]
    assert [path.name for path in readers] == ["weights.py"]
    unpacked = {"extract", "extractall", "unpack_archive"}
    assert not [name for path, name, _ in calls() if path in readers and name.rpartition(".")[2] in unpacked]
    forbidden = {
        "eval", "exec", "compile", "pd.read_pickle", "os.system", "os.popen",
        "shutil.unpack_archive", "torch.hub.load", "np.fromfile", "np.loadtxt", "np.genfromtxt",
    }  # fmt: skip
    assert not [(path, name) for path, name, _ in calls() if name in forbidden]
    loads = [call for _, name, call in calls() if name == "torch.load"]
    assert loads
    assert all("weights_only=True" in map(ast.unparse, call.keywords) for call in loads)
    shells = [path for path, _, call in calls() if any(one.arg == "shell" for one in call.keywords)]
    assert not shells


def test_every_numpy_load_refuses_pickles() -> None:
    told = [one for _, _, call in calls() for one in call.keywords if one.arg == "allow_pickle"]
    assert all(ast.unparse(one.value) == "False" for one in told)
    found = [(path, call) for path, name, call in calls() if name in ("np.load", "numpy.load")]
    assert found  # feature files are mapped by a header that is not of objects
    for path, call in found:
        stated = {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert stated.get("allow_pickle") == "False", f"{path}:{call.lineno}"


def test_no_module_is_a_client_of_the_network() -> None:
    clients = {"http", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "urllib.request", "webbrowser"}
    assert not [(path, name) for path, name in imports() if {name, name.split(".")[0]} & clients]


NO_NETWORK = """
import contextlib, ipaddress, os, sys

def guard(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):
            return  # a socket of this machine's file system
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if host in (None, "", "localhost", b"localhost"):
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    os.write(2, f"NETWORK {event} {host}\\n".encode())
    os._exit(77)

sys.addaudithook(guard)
"""
COMMANDS = """
import os, sys
from pathlib import Path
from harness.studies import robustness
from harness.cli.main import main

data, folder, root = sys.argv[1:]
robustness.PROBLEM = robustness.Problem(classes=3, anchors=2, held_out=5, steps=1)
quick = ["--data", data, "--store", "store", "--device", "cpu", "--threads", "1",
         "--set", "train.epochs=2", "train.temporal_length=16", "train.batch_size=3"]
runs = []
for method in ("acmnet", "cola"):
    assert main(["run", "--method", method, *quick]) == 0
    (run,) = Path("store/runs").glob(f"tiny-{method}-*")
    runs.append(str(run))
detections = f"{runs[0]}/detections.json.gz"
for command in (
    ["evaluate", detections, "--annotations", data, "--protocol", "all"],
    ["data", "verify", data],
    ["predict", runs[0], "--data", data, "--subset", "test", "--out", "found.json", "--device", "cpu"],
    ["compare", *runs],
    ["paper", "compare", "--table", "I", "--results", f"{root}/results"],
    ["leaderboard", "--results", "results"],
    ["paper", "audit"],
    ["paper", "cost", "--stored", "--results", f"{root}/results"],
    ["records", "query", "--results", f"{root}/results"],
    ["records", "diff", runs[0], runs[0]],
    ["show", runs[0], "--losses", "--out", "drawn"],
    ["ls", "methods"],
    ["paper", "robustness", "--seeds", "2", "--out", "robust"],
):
    os.makedirs("results/records", exist_ok=True)
    code = main(command)
    assert code == 0, (command, code)
print("all done")
"""


def guarded(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A Python process that ends with 77 as soon as it, or a Python that it starts, looks for another machine."""
    (folder / "guard").mkdir(exist_ok=True)
    (folder / "guard" / "sitecustomize.py").write_text(NO_NETWORK)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "guard"), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("import socket; socket.create_connection(('192.0.2.1', 80))", 77),
        ("import socket; socket.getaddrinfo('example.org', 80)", 77),
        ("import urllib.request; urllib.request.urlopen('http://example.org')", 77),
        ("import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', "
         "'import socket; socket.gethostbyname(\"example.org\")']))", 77),
        ("import socket; a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname())", 0),
    ],
)  # fmt: skip
def test_the_guard_sees_the_network(tmp_path: Path, code: str, ends: int) -> None:
    assert guarded(tmp_path, "-c", code).returncode == ends


def test_no_command_uses_the_network(tmp_path: Path) -> None:
    data = write_tiny(tmp_path / "data")
    done = guarded(tmp_path, "-c", COMMANDS, data, tmp_path, ROOT)
    assert (done.returncode, done.stdout[-9:]) == (0, "all done\n"), done.stderr[-2_000:]


# what a file may say


def annotated(folder: Path, video: str, label: str = "Run") -> Path:
    instance = {"label": label, "segment": [0, 1]}
    entry = {"subset": "test", "duration": 9.0, "annotations": [instance]}
    (folder / "annotations.json").write_text(json.dumps({"database": {video: entry}}))
    return folder


@pytest.mark.parametrize("video", OUTSIDE)
def test_a_video_id_is_no_path(tmp_path: Path, video: str) -> None:
    data = write_tiny(tmp_path / "data")
    (tmp_path / "escaped.npy").write_bytes(next((data / "features/test/rgb").iterdir()).read_bytes())
    content = json.loads((data / "annotations.json").read_text())
    content["database"][video] = next(iter(content["database"].values()))
    (data / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"plain file name|control characters|longer than"):
        open_dataset(data, allow_missing=True)
    with pytest.raises(UserError, match=r"plain file name|longer than"):
        FeatureFolder(data, ("rgb",), {}).stem(video.replace("\n", "/"))


@pytest.mark.parametrize("video", OUTSIDE)
def test_a_converted_video_id_is_no_path(tmp_path: Path, video: str) -> None:
    arrays = {
        "videoname": np.array([video], dtype=object), "subset": np.array(["test"]), "duration": np.array([9.0]),
        "labels": pair(["a"]), "labels_all": pair(["a"]), "segments": pair([[0.0, 1.0]]),
    }  # fmt: skip
    (tmp_path / "in").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "in" / f"{name}.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=r"plain file name|control characters|longer than|expected a name"):
        convert(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def pair(value: Any) -> np.ndarray:
    array = np.empty(1, dtype=object)
    array[0] = value
    return array


@pytest.mark.parametrize("name", [*OUTSIDE, "a" * 101])
def test_what_folders_and_files_are_called_by_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="has a name that no folder can have"):
        run_id("data", name, 0, "0" * 64)
    record = make_record()
    record["data"]["name"] = name
    with pytest.raises(ValidationError):
        Record.model_validate(record)
    plan: dict[str, Any] = {"title": "t", "source": "s", "seeds": [0], "columns": [], "mAP": ["0.5"]}
    if set(name) & set("/\\\0\n"):
        with pytest.raises(ValidationError):
            Plan.model_validate(plan | {"rows": [{"id": name, "cells": []}]})
    sources = tmp_path / "sources.toml"
    sources.write_text(f"[{json.dumps(name)}]\ndetections='d'\nannotations='a'\nmethod='m'\nsource='s'\n")
    with pytest.raises(UserError, match=r"sources.toml"):
        read_sources(sources)


@pytest.mark.parametrize("folder", ["../../outside", "/", "a/../../b", "a\\..\\b"])
def test_a_data_set_does_not_lead_out_of_its_folder(tmp_path: Path, folder: str) -> None:
    data = write_tiny(tmp_path / "data")
    text = (data / "dataset.toml").read_text()
    (data / "dataset.toml").write_text(f"{text}test = {{ annotation = ['test'], folders = [{json.dumps(folder)}] }}\n")
    with pytest.raises(UserError, match=r"`test\.folders\.0`: expected a folder below the data's"):
        read_descriptor(data / "dataset.toml")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "features/../../secret"])
def test_a_manifest_does_not_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"")
    data = write_tiny(tmp_path / "data")
    (data / MANIFEST).write_text(f"{sha256(b'')}  {name}\n")
    report = verify(data)
    failures = [failure for check in report.checks for failure in check.failures]
    assert (report.exit_code, failures) == (2, [(name, "leads out of the folder")])


# what a pickle may hold; NumPy believes each of these and then reads wherever the bytes point


class Call:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


RECONSTRUCT = np.empty(0).__reduce__()[0]
EMPTY = (np.ndarray, (0,), b"b")
LYING = Call(np.dtype, ("V8", False, True), (3, "|", None, ("x",), {"x": (np.dtype("O"), 0)}, 8, 1, 0))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Call(np.ndarray, ((1,), "O", b"A" * 8)), "not a readable .npy file"),
        (Call(np.ndarray, ((10**12,), "f8")), "not a readable .npy file"),
        (Call(RECONSTRUCT, EMPTY, (1, (10**6,), np.dtype("O"), False, [1])), r"shape \[1000000\] has other data"),
        (Call(RECONSTRUCT, EMPTY, (1, (1,), LYING, False, b"A" * 8)), "array of type 'V8'"),
        (Call(RECONSTRUCT, EMPTY, (1, (1,), np.dtype([("x", "O")]), False, b"A" * 8)), "array of type 'V8'"),
        (Call(RECONSTRUCT, EMPTY, (1, (2,), np.dtype("f8"), False, b"A" * 8)), r"shape \[2\] has other data"),
        (
            Call(RECONSTRUCT, EMPTY, (1, (-1,), np.dtype("f8"), False, b"")),
            "array without type or shape|it names __builtin__",
        ),
        (Call(np.dtype, ("f8", False, True), (3, "|", None, ("x",), {}, 8, 1, 0)), "array of records"),
        (
            Call(np.float64(0).__reduce__()[0], (np.dtype("O"), b"A" * 8)),
            "scalar that is not a plain number",
        ),
    ],
)
def test_a_pickle_cannot_make_numpy_read_elsewhere(tmp_path: Path, attack: Call, message: str, protocol: int) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + pickle.dumps(pair(attack), protocol=protocol))
    with pytest.raises(UserError, match=message):
        load_array(tmp_path / "a.npy")


def test_a_pickle_cannot_change_what_it_may_name(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    payload = b"c_codecs\nencode\n(N}(V__doc__\nVchanged\nutb."
    (tmp_path / "a.npy").write_bytes(header.getvalue() + payload)
    with pytest.raises(UserError, match="it sets the state of a function"):
        load_array(tmp_path / "a.npy")


@pytest.mark.parametrize("opcode", [b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f"])
def test_a_pickle_cannot_ask_for_memory(tmp_path: Path, opcode: bytes) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + b"\x80\x04]" + opcode + b".")
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"a\.npy"):
            load_array(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


# sizes, depths, keys, numbers


def test_json_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 2**20)
    path = tmp_path / "large.json"
    path.write_bytes(b" " * (2**20 + 1))
    for read in (read_json, read_annotations):
        with pytest.raises(UserError, match=r"large.json has 1 MiB, more than the limit of 1 MiB"):
            read(path)
    # no memory is taken for what is refused by its size
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"has 1,048,576 MiB, more than the limit"):
        read_json(path)


def test_what_a_small_file_unpacks_to_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detections, "LARGEST", 2**20)
    path = tmp_path / "bomb.json.gz"
    path.write_bytes(gzip.compress(b" " * 2**27) * 2)  # members follow each other
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"bomb.json.gz holds more than 1 MiB of JSON, the limit"):
            read_detections(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_files_that_never_end_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="Not a regular file"):
        read_json(Path("/dev/zero"))


@pytest.mark.parametrize("deep", [b"[" * 100 + b"]" * 100, b'{"a":' * 100 + b"1" + b"}" * 100, b"[" * 200_000])
def test_nesting_has_a_limit(tmp_path: Path, deep: bytes) -> None:
    path = tmp_path / "deep.json"
    path.write_bytes(deep)
    for read in (read_json, read_annotations, read_detections):
        with pytest.raises(
            UserError, match=r"deep.json is not valid JSON, or cut off \((nested deeper|maximum recursion)"
        ):
            read(path)
    assert parse_json(b"[" * 60 + b"]" * 60, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a" + ".a" * 300_000 + " = 1", "a key of more than 64 parts"),
        ("[a" + ".a" * 300_000 + "]", "a key of more than 64 parts"),
        ("a = " + "[" * 400_000, "recursion|valid TOML"),
        ("a = " + "[" * 90 + "]" * 90, "nested deeper than 64 levels"),
        ("a = " + "9" * 5_000, "integer string conversion"),
        ("a = 1\na = 2", "Cannot overwrite"),
        ("#" * (2**20 + 1), "more than the limit of 1 MiB"),
        ("a = '\udcff'", "can't decode"),
    ],
)
def test_toml_has_limits(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for read in (read_toml, read_descriptor, read_sources):
        with pytest.raises(UserError, match=message) as caught:
            read(path)
        assert len(str(caught.value)) < 1_000


def test_a_key_twice_is_refused_wherever_json_is_read(tmp_path: Path) -> None:
    text = canonical_json(make_record()).decode().replace('"seed":0', '"seed":0,"seed":1')
    (tmp_path / "record.json").write_text(text)
    for read in (read_record, read_annotations, read_detections):
        with pytest.raises(UserError, match=r"record.json: 'seed' is given twice in one object. Remove one"):
            read(tmp_path / "record.json")
    many = ",".join(f'"{number}":0' for number in (*range(200_000), 199_999))
    with pytest.raises(UserError, match="'199999' is given twice"):  # found in time that is linear in the keys
        parse_json(f"{{{many}}}".encode(), tmp_path / "many.json")


@pytest.mark.parametrize("number", ["1" + "0" * 30, "-" + "9" * 20, "9" * 5_000])
def test_no_file_of_ours_holds_integers_that_no_computer_counts_to(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.json").write_text(f'{{"a": {number}}}')
    with pytest.raises(UserError, match=r"a\.json.*(integer of \d+ digits|integer string conversion)"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("seed", '"0"'),
        ("data/width", '"16"'),
        ("metrics/anet/videos", "2.5"),
        ("metrics/anet/mAP/0.1", '"20"'),
        ("environment/threads", '"1"'),
    ],
)
def test_text_is_no_number_in_a_record(tmp_path: Path, place: str, text: str) -> None:
    record: Any = make_record()
    *parents, last = place.split("/")
    inner = record
    for name in parents:
        inner = inner[name]
    inner[last] = json.loads(text)
    (tmp_path / "a.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"{place.replace('/', '.')} is "):
        read_record(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a\nb", "has control characters"),
        ("\x1b[2J", "has control characters"),
        ("\x85", "has control characters"),
        ("\u2028", "has control characters"),
        ("\udc80", "is not text that UTF-8 can encode"),
        ("x" * 1_001, "is longer than 1,000 characters"),
    ],
)
def test_a_name_keeps_to_its_line(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UserError, match=f"name: '.*{fault}") as caught:
        check_text(text, "name")
    assert len(str(caught.value)) < 1_000
    assert str(caught.value).isprintable()
    for read in (
        lambda: read_annotations(annotated(tmp_path, text)),
        lambda: read_annotations(annotated(tmp_path, "v", text)),
    ):
        with pytest.raises(UserError, match=fault):
            read()
    for good in ("naïve café", "日本語", "a b", "[/red]", "<b>", "👩‍🚀", "a\u00a0b"):
        check_text(good, "name")


def test_names_are_no_markup_of_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.main import main

    data = write_tiny(tmp_path / "data")
    name = "[red][link=x]x:skull:"
    videos = json.loads((data / "annotations.json").read_text())["database"]
    labels = {video: {"labels": ["[/red]"]} for video in videos}
    (data / "video_labels.json").write_text(json.dumps(labels))
    source = next((data / "features/test/rgb").iterdir())
    source.with_name(f"{name}.npy").write_bytes(source.read_bytes())
    source.with_name("odd\udcff\n\x1b[31m.npy").write_bytes(source.read_bytes())
    assert main(["data", "verify", str(data)]) == 2
    shown = capsys.readouterr()
    assert "unknown [/red]" in shown.out
    assert name in shown.out.replace("\n", "")
    assert "odd\\udcff\\n\\x1b[31m" in shown.out.replace("\n", "")


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npy"
    {
        "pipe": lambda: os.mkfifo(path), "folder": path.mkdir, "loop": lambda: path.symlink_to(path.name),
        "device": lambda: path.symlink_to("/dev/zero"),
    }[kind]()  # fmt: skip
    for read in (read_header, load_array, read_json, read_toml, read_annotations, read_detections):
        with pytest.raises((UserError, MissingDataError), match=r"x\.npy"):
            read(path)


# flags whose digest a hostile record vouches for


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("video", lambda column: column + 99, "video has a value that stands for nothing"),
        ("video", lambda column: column - 99, "video has a value that stands for nothing"),
        ("label", lambda column: column.astype(float), r"label is float64 \[2\]"),
        ("hit", lambda column: column[:, :2], r"hit is bool \[2, 2\]"),
        ("excused", lambda column: column[:1], r"excused is bool \[1\]"),
        ("instance_label", lambda column: column[None], r"instance_label is int64 \[1, 1\]"),
        ("score", None, "score"),
        (ABOUT, "x", "Invalid JSON"),
        (ABOUT, '{"protocol": "anet"}', "validation error"),
        (ABOUT, None, "about"),
    ],
)
def test_flags_that_no_run_writes(tmp_path: Path, name: str, change: Any, message: str) -> None:
    columns = {
        "detection": np.array([0, 1]), "video": np.array([0, 1]), "label": np.array([0, 1]),
        "score": np.array([0.9, 0.1]), "hit": np.zeros((2, 5), bool), "excused": np.zeros(2, bool),
        "instance_video": np.array([0]), "instance_label": np.array([0]),
    }  # fmt: skip
    about = {"protocol": "anet", "tious": [0.1, 0.2, 0.3, 0.4, 0.5], "classes": ["Jump", "Run"], "videos": ["a", "b"]}
    metadata: dict[str, str] | None = {ABOUT: json.dumps(about)}
    if name == ABOUT:
        metadata = {ABOUT: change} if change else None
    elif change is None:
        del columns[name]
    else:
        columns[name] = np.ascontiguousarray(change(columns[name]))
    data = safetensors.numpy.save(columns, metadata)
    record = make_record()
    record["artefacts"][MATCHES] = sha256(data)
    (tmp_path / MATCHES).write_bytes(data)
    (tmp_path / RECORD).write_bytes(pretty_json(record))
    with pytest.raises(StoreError, match=message) as caught:
        read_matches(FinishedRun.open(tmp_path))
    assert "\n" not in str(caught.value)


# pages

ATTACKS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</title></style></script><svg onload=alert(1)>",
    "\"'><iframe src=javascript:alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://example.org/a.png)",
    "{{ 7*7 }}{% raw %}",
    "&lt;b&gt;<b>",
    "`<u>`|x|\\|",
)


def test_no_text_of_a_record_is_taken_for_a_part_of_the_page(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    for number, text in enumerate(ATTACKS):
        for seed in (0, 1):
            record = make_record(seed=seed, classes=(f"A{text}", f"B{text}"), title=f"T{text}",
                                 schedule={f"s{text}": text}, overrides={f"o{text}": text})  # fmt: skip
            record["data"] |= {
                "name": f"data{number}",
                "title": f"D{text}",
                "features": f"F{text}",
                "labels": f"L{text}",
            }
            record["data"]["test"]["list"] = f"list{text}"
            record["environment"] |= {"cpu": f"C{text}", "device": f"E{text}", "system": f"S{text}"}
            record["id"] = run_id(record["data"]["name"], record["method"], seed, record["digest"])
            (records / f"{number}-{seed}.json").write_text(json.dumps(record))
    loaded, refused = list_records(records, ranked=True)
    assert (len(loaded), refused) == (2 * len(ATTACKS), [])
    rendered = render(Results(loaded))
    reader = Reader()
    reader.feed(rendered["report.html"])
    elements = reader.root.all()
    words = reader.root.text
    for text in ATTACKS[:4]:
        assert f"D{text}" in words
    assert len([one for one in elements if one.tag == "script"]) == 1
    assert not [
        one
        for one in elements
        if one.tag in ("img", "iframe", "u", "b", "object", "embed", "base", "link", "foreignObject")
    ]
    for one in elements:
        assert not [name for name in one.attributes if name.startswith("on") or name == "style"], one.attributes
        assert not one.attributes.get("href", "").lower().startswith(("javascript", "data", "http://example"))
    # of GitHub's pages too: nothing that a reader's browser takes for an element
    for name, page in rendered.items():
        if name.endswith(".md"):
            assert "<script" not in page, name
            assert "<img" not in page, name
        if name.endswith(".svg"):
            assert "<script" not in page, name


def test_a_drawing_from_elsewhere_brings_no_handlers(tmp_path: Path) -> None:
    from harness.charts.figure import Figure
    from harness.pages.html import html_report
    from harness.pages.model import Page

    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="alert(1)">'
        "<script>alert(1)</script><foreignObject><p>x</p></foreignObject>"
        '<a xlink:href="javascript:alert(1)"><text>t</text></a>'
        '<image href="http://example.org/x.png"/><use href="https://example.org/x.svg#a"/>'
        '<animate onbegin="alert(1)"/></svg>'
    )
    reader = Reader()
    reader.feed(html_report([Page("p", "P", [Figure("f", "c", svg)])]))
    drawing = reader.root.one("svg")
    assert drawing.text == "t"
    for one in (drawing, *drawing.all()):
        assert not [name for name in one.attributes if name.startswith("on")]
        assert one.attributes.get("href", "#").startswith("#")
