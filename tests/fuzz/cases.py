"""What is fuzzed: for each kind of file, a command that parses it, run in this process and held to what it promises."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

from harness.cli.main import main
from harness.data.detections import write_detections
from harness.io.encoding import pretty_json
from harness.registry import load_method
from harness.runs.failed_step import Position, save_failed_step
from tests.fuzz.mutations import (
    Draw,
    Mutate,
    bytes_of,
    json_of,
    npy_of,
    pickled_of,
    resized_tensors_of,
    safetensors_of,
    text_of,
    toml_of,
)
from tests.helpers.records import make_record
from tests.helpers.small_data import CLASSES, write_tiny
from wstal.types import Batch, Detections

ROOT = Path(__file__).parents[2]
CPU_SECONDS = 5.0
HANG_SECONDS = 300  # of the clock, on a machine that may do other work
REPORTING = {
    "verify",
    "query",
    "migrate",
    "leaderboard",
    "compare",
}  # name several files, each with `error:`, or a table
QUICK = ("--set", "train.epochs=2", "train.temporal_length=16", "train.batch_size=2", "--threads", "1")


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Args:
        file: the mutated file, below the workplace.
        command: that reads it, paths below the workplace.
        mutate: what is done to it.
        outputs: what the command may write.
        signed: the record whose digest of the file is made to fit, since a hostile run's would.
        share: of the cases, in parts per thousand.
    """

    file: str
    command: tuple[str, ...]
    mutate: Mutate
    outputs: tuple[str, ...] = ()
    signed: str | None = None
    share: int = 20


EVALUATE = ("evaluate", "scored/detections.json", "--annotations", "scored", "--protocol", "all", "--json")
VERIFY = ("data", "verify", "data")
CONVERT = ("data", "convert", "--annotations", "wtalc", "--features", "joint.npy", "--out", "converted")
HAAN = ("data", "convert", "--annotations", "haan", "--class-names", "names.json", "--out", "converted")
PREDICT = ("predict", "run", "--data", "data", "--subset", "test", "--device", "cpu", "--out", "found.json")
COMPARE = ("compare", "run", "other", "--json")
PLAN = ("sweep", "mine.toml", "--data", "data", "--store", "plans", "--dry-run", "--format", "json")
REPLAY = ("debug", "replay", "failed-step.safetensors")
QUERY = ("records", "query", "--results", "results", "--json")
KINDS = {
    "annotations": Kind("scored/annotations.json", EVALUATE, json_of, share=90),
    "annotations of a data set": Kind("data/annotations.json", VERIFY, json_of, share=40),
    "detections": Kind("scored/detections.json", EVALUATE, json_of, share=90),
    "compressed detections": Kind(
        "scored/detections.json.gz", ("evaluate", "scored/detections.json.gz", *EVALUATE[2:]), bytes_of, share=30
    ),
    "ambiguous intervals": Kind("scored/Ambiguous_test.txt", EVALUATE, text_of, share=30),
    "video labels": Kind("data/video_labels.json", VERIFY, json_of, share=40),
    "frame rates": Kind("data/fps.json", VERIFY, json_of, share=40),
    "class names": Kind("data/classes.txt", VERIFY, text_of),
    "dataset.toml": Kind("data/dataset.toml", VERIFY, toml_of, share=90),
    "manifest": Kind("data/SHA256SUMS", VERIFY, text_of),
    "features": Kind("data/features/test/rgb/test_000.npy", VERIFY, npy_of, share=80),
    "arrays": Kind("wtalc/duration.npy", CONVERT, npy_of, ("converted",)),
    "pickled labels": Kind("wtalc/labels.npy", CONVERT, pickled_of, ("converted",), share=50),
    "pickled segments": Kind("wtalc/segments.npy", CONVERT, pickled_of, ("converted",), share=40),
    "pickled features": Kind("joint.npy", CONVERT, pickled_of, ("converted",), share=40),
    "pickled class numbers": Kind("haan/labels.npy", HAAN, pickled_of, ("converted",)),
    "names of class numbers": Kind("names.json", HAAN, json_of, ("converted",)),
    "sources of detections": Kind(
        "sources.toml", ("evaluate", "sources.toml", "--keep", "--results", "new"), toml_of, ("new",), share=50
    ),
    "plans": Kind("mine.toml", PLAN, toml_of, ("plans",), share=50),
    "records": Kind("results/records/run.json", QUERY, json_of, share=50),
    "records beside each other": Kind(
        "results/records/run.json", ("records", "diff", "results/records/run.json", "run", "--json"), json_of, share=30
    ),
    "old records": Kind("old/record.json", ("records", "migrate", "old"), json_of, ("old/record.json",)),
    "rescored detections": Kind(
        "results/rescored/autoloc.json", ("paper", "compare", "--table", "I", "--results", "results"), json_of, share=15
    ),
    "costs": Kind("results/cost.json", ("paper", "cost", "--stored", "--results", "results"), json_of),
    "records on pages": Kind(
        "results/records/run.json", ("leaderboard", "--results", "results"), json_of,
        ("results/leaderboards", "results/audit.md", "results/report.html"), share=1,
    ),
    "a run's record": Kind("run/record.json", PREDICT, json_of, ("found.json",), share=10),
    "weights": Kind("run/weights.safetensors", PREDICT, safetensors_of, ("found.json",), "run/record.json", 15),
    "other weights": Kind(
        "run/weights.safetensors", PREDICT, resized_tensors_of, ("found.json",), "run/record.json", 10
    ),
    "flags": Kind("run/flags.safetensors", COMPARE, safetensors_of, (), "run/record.json", 15),
    "other flags": Kind("run/flags.safetensors", COMPARE, resized_tensors_of, (), "run/record.json", 15),
    "history": Kind(
        "run/history.json", ("show", "--losses", "run", "--out", "drawn"), json_of, ("drawn",), "run/record.json", 10
    ),
    "a failed step": Kind("failed-step.safetensors", REPLAY, safetensors_of, share=20),
    "another failed step": Kind("failed-step.safetensors", REPLAY, resized_tensors_of, share=15),
}  # fmt: skip


def make_workplace(folder: Path) -> Path:
    """A folder with a valid file of every kind; every command of `KINDS` succeeds there."""
    write_tiny(folder / "data", train=4, test=3)
    (folder / "data" / "dataset.toml").write_text(
        'name = "tiny"\ntitle = "Tiny"\nextractor = "random numbers"\nfps_file = "fps.json"\nsnippet_frames = 16\n'
        'stride = 16\nclass_file = "classes.txt"\nstreams = [{ name = "rgb", width = 16 }]\ntious = "0.1:0.1:0.7"\n'
        'headline = "anet"\nresampled = false\nlabels_file = "video_labels.json"\nfile_prefixes = ["", "v_"]\n'
        'test = { annotation = ["test"], folders = ["test", "val"] }\n'
    )
    content = json.loads((folder / "data" / "annotations.json").read_text())["database"]
    labels = {
        video: {"labels": sorted({one["label"] for one in entry["annotations"]}), "duration_seconds": entry["duration"]}
        for video, entry in content.items()
    }
    (folder / "data" / "video_labels.json").write_text(json.dumps(labels))
    (folder / "data" / "fps.json").write_text(json.dumps(dict.fromkeys(content, 25.0)))
    (folder / "data" / "classes.txt").write_text("\n".join(CLASSES))
    paths = sorted(path for path in (folder / "data").rglob("*") if path.suffix in (".npy", ".toml"))
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder / 'data')}\n"
        for path in paths
    ]  # fmt: skip
    _run(folder)
    (folder / "data" / "SHA256SUMS").write_text("".join(lines))
    _scored(folder / "scored", content)
    _arrays(folder)
    _results(folder)
    method = load_method("acmnet")
    _failed_step(folder / "failed-step.safetensors", method)
    return folder


def _scored(folder: Path, content: dict[str, Any]) -> None:
    folder.mkdir()
    (folder / "annotations.json").write_text(json.dumps({"version": "1", "taxonomy": [], "database": content}))
    (folder / "Ambiguous_test.txt").write_text("test_000 0.5 1.5\ntest_001 2 3\n")
    detections = Detections(
        ("test_000", "test_001", "elsewhere"), CLASSES, np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]),
        np.array([3.0, 1.0, 4.0, 0.0]), np.array([9.0, 2.0, 10.0, 1.0]), score=np.array([0.9, 0.1, 0.5, 0.2]),
    )  # fmt: skip
    write_detections(folder / "detections.json", detections)
    (folder / "detections.json.gz").write_bytes(gzip.compress((folder / "detections.json").read_bytes(), mtime=0))


def _objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _arrays(folder: Path) -> None:
    names, segments = ["a", "b", "c"], [[[0.0, 1.5], [2.0, 3.0]], [[0.5, 2.0]], [[1.0, 1.5], [2.0, 2.5]]]
    wtalc = {
        "videoname": np.array(names, dtype="S"), "subset": np.array(["validation", "validation", "test"], dtype="S"),
        "duration": np.array([[6.4], [3.2], [4.48]]), "labels": _objects([["run", "jump"], ["run"], ["jump", "jump"]]),
        "labels_all": _objects([["run"], ["run"], ["jump"]]), "segments": _objects(segments),
    }  # fmt: skip
    haan = {
        "video_names": np.array(names), "labels": _objects([[[8, 62], [0, 3]], [[0, 3]], [[8, 62], [8, 62]]]),
        "segments": _objects(segments), "sec2clip_ratios": np.array([2.0, 4.0, 0.5]),
    }  # fmt: skip
    for form, arrays in (("wtalc", wtalc), ("haan", haan)):
        (folder / form).mkdir()
        for name, array in arrays.items():
            np.save(folder / form / f"{name}.npy", array, allow_pickle=True)
    np.save(folder / "joint.npy", _objects([np.ones((rows, 4), np.float32) for rows in (10, 5, 7)]), allow_pickle=True)
    (folder / "names.json").write_text('{"62": "crawling", "3": "folding"}')


def _results(folder: Path) -> None:
    records = folder / "results" / "records"
    records.mkdir(parents=True)
    shutil.copy(folder / "run" / "record.json", records / "run.json")
    (records / "another.json").write_bytes(pretty_json(make_record()))
    (folder / "results" / "rescored").mkdir()
    shutil.copy(ROOT / "results" / "rescored" / "autoloc.json", folder / "results" / "rescored")
    shutil.copy(ROOT / "results" / "cost.json", folder / "results")
    (folder / "old").mkdir()
    shutil.copy(ROOT / "tests" / "data" / "record-1.json", folder / "old" / "record.json")
    (folder / "mine.toml").write_text(
        'title = "Mine"\nsource = "nobody"\nseeds = [0, 1]\ncolumns = ["what"]\nmAP = ["0.5"]\nreference = "plain"\n\n'
        '[[rows]]\nid = "plain"\nmethod = "acmnet"\ncells = ["as it is"]\n\n'
        '[[rows]]\nid = "longer"\nmethod = "rmgcl-gksa"\ncells = ["longer"]\ntrained_as = "acmnet"\n'
        'options = { "method.memory.length" = 10, "train.epochs" = 3, "localizer.nms.threshold" = 0.5 }\n'
    )
    (folder / "sources.toml").write_text(
        '[one]\ndetections = "scored/detections.json"\nannotations = "scored"\nmethod = "One"\nsource = "a test"\n'
        'dataset = "tiny"\nfeatures = "random"\nnote = "none"\nsubset = "test"\nprotocols = ["anet"]\n'
        'tious = "0.1:0.1:0.7"\n\n[two]\ndetections = "scored/detections.json.gz"\nannotations = "scored"\n'
        'method = "Two"\nsource = "a test"\ndataset = "tiny"\n'
    )


def _run(folder: Path) -> None:
    """Two finished runs of two systems, `run` and `other`."""
    for name, changed in (("run", "2"), ("other", "3")):
        arguments = ["run", "--method", "acmnet", "--data", str(folder / "data"), "--store", str(folder / "store"),
                     *QUICK, "--set", f"method.dropout=0.{changed}", "--device", "cpu", "--json"]  # fmt: skip
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            assert main(arguments) == 0
        shutil.copytree(json.loads(out.getvalue())["run"], folder / name)
    shutil.rmtree(folder / "store")


def _failed_step(path: Path, cls: Any) -> None:
    torch.manual_seed(0)
    method = cls(cls.recipe("thumos14").method, 16, 3)
    batch = Batch(torch.rand(2, 12, 16), torch.eye(3)[:2], ("a", "b"))
    save_failed_step(path, method, batch, torch.get_rng_state(), Position(0, 2, 0), "float32")


class HangError(BaseException):
    """A command that waits for something that does not come."""


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Stop what takes longer."""

    def stop(_: int, __: FrameType | None) -> None:
        raise HangError(f"still not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path below a folder with what shows a change of it."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(parent, name))
            changes = (status.st_size, status.st_mtime_ns) if name in files else (0, 0)
            found[os.path.relpath(os.path.join(parent, name), folder)] = changes
    return found


@dataclass
class Bench:
    """A workplace that is the current folder, with a temporary folder of its own.

    Args:
        folder: made by `make_workplace`.
        tally: cases by kind and exit code.
        slowest: seconds of processor time that a case of a kind took at most.
    """

    folder: Path
    tally: dict[str, dict[int, int]] = field(default_factory=dict)
    slowest: dict[str, float] = field(default_factory=dict)

    def call(self, *command: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command; whatever but SystemExit leaves `main` fails the test."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limited(HANG_SECONDS):
            try:
                code = main(list(command))
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else 1
        return code, out.getvalue(), err.getvalue()

    def check(self, kind: str, command: tuple[str, ...], outputs: tuple[str, ...] = ()) -> int:
        """Run a command on what lies there and hold it to its promises; returns the exit code."""
        before = everything(self.folder)
        begin = time.process_time()
        code, out, err = self.call(*command)
        spent = time.process_time() - begin
        assert spent < CPU_SECONDS, f"{spent:.1f} s"
        assert code in ({0, 2, 3, 4, 5} if "diff" in command else {0, 2, 3, 4}), (code, err)
        # a terminal and a log take what is printed
        (out + err).encode()
        assert "Traceback" not in err
        lines = err.splitlines()
        errors = [line for line in lines if line.startswith(("error: ", "wstal-bench"))]
        if code not in (0, 5) and not (REPORTING & set(command) and lines and lines[-1].startswith("Done: ")):
            assert len(errors) == 1, err
            assert lines[-1] == errors[0], err
        assert all(len(line) < 5_000 for line in errors), max(map(len, errors))
        after = everything(self.folder)
        for path in outputs:
            if path not in before:
                target = self.folder / path
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            for found in (before, after):
                for name in [name for name in found if Path(name).is_relative_to(path)]:
                    del found[name]
        assert after == before
        self.tally.setdefault(kind, {}).setdefault(code, 0)
        self.tally[kind][code] += 1
        self.slowest[kind] = max(spent, self.slowest.get(kind, 0.0))
        return code

    @contextlib.contextmanager
    def replaced(self, file: str, put: Callable[[Path], object]) -> Iterator[None]:
        """Put something else in a file's place for a while."""
        path = self.folder / file
        valid, status = path.read_bytes(), path.stat()
        path.unlink()
        try:
            put(path)
            yield
        finally:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            path.write_bytes(valid)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def fuzz(self, name: str, draw: Draw) -> int:
        """One case of a kind."""
        kind = KINDS[name]
        mutated = kind.mutate(draw, (self.folder / kind.file).read_bytes())
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.replaced(kind.file, lambda path: path.write_bytes(mutated)))
            if kind.signed is not None:
                record = json.loads((self.folder / kind.signed).read_bytes())
                record["artefacts"][Path(kind.file).name] = hashlib.sha256(mutated).hexdigest()
                data = json.dumps(record).encode()
                stack.enter_context(self.replaced(kind.signed, lambda path: path.write_bytes(data)))
            return self.check(name, kind.command, kind.outputs)


@contextlib.contextmanager
def bench_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench in a new folder."""
    make_workplace(folder)
    (folder / "tmp").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    yield Bench(folder)
