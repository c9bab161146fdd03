"""Check of every file of a data set, with a report of everything that is wrong."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.table import Table
from rich.text import Text

from harness.data.clock_check import late_instances, sample_rows, shape
from harness.data.dataset import Dataset
from harness.data.digests import file_digests
from harness.data.discovery import usual_widths
from harness.data.features import agree, check_finite, map_features, read_header, remedy_for, some
from harness.data.opening import open_dataset
from harness.data.source import SUBSETS, Subset
from harness.io.atomic import atomic_write
from harness.io.console import OnProgress
from harness.io.encoding import sha256_file
from harness.io.reading import read_limited
from harness.io.text import printable
from wstal.errors import MissingDataError, UserError
from wstal.types import FloatArray

MANIFEST = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
Severity = Literal["bad", "missing", "note"]


@dataclass
class Check:
    """Row of the report.

    Args:
        name: what was checked.
        severity: meaning of a failure: a `bad` file, `missing` data, or a harmless `note`.
        passed: number of files or videos that passed.
        failures: (file or video, problem), in order.
    """

    name: str
    severity: Severity
    passed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def record(self, name: str, passed: bool, problem: str) -> None:
        """Count a file or video, with its problem if it did not pass.

        Args:
            name: the file or video.
            passed: whether it passed.
            problem: the problem if it did not.
        """
        if passed:
            self.passed += 1
        else:
            self.failures.append((printable(name), problem))


@dataclass(frozen=True)
class VerifyReport:
    """Result of `verify`.

    Args:
        data: the data set's name.
        checks: all checks in their order.
        notes: assumptions made when the data set was opened.
    """

    data: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """Exit code: 3 if data are missing, else 2 if a file is bad, else 0."""
        if self.failed("missing"):
            return MissingDataError.exit_code
        return UserError.exit_code if self.failed("bad") else 0

    def failed(self, severity: Severity) -> bool:
        """Return whether a check of this severity has failures."""
        return any(check.failures for check in self.checks if check.severity == severity)

    def table(self, shown: int = 3) -> Table:
        """Make a table of the report, with the first few offenders of each check."""
        table = Table("check", "passed", "failed", "means", "first offenders", title=f"{self.data}")
        for check in self.checks:
            offenders = "; ".join(f"{name}: {problem}" for name, problem in check.failures[:shown])
            more = len(check.failures) - shown
            offenders += f"; {more} more" if more > 0 else ""
            means = check.severity if check.failures else ""
            # names from files must not be read as markup
            cells = (check.name, str(check.passed), str(len(check.failures)), means, offenders)
            table.add_row(*map(Text, cells))
        return table

    def to_json(self) -> dict[str, Any]:
        """Return the whole report as JSON values."""
        return {
            "data": self.data,
            "exit_code": self.exit_code,
            "notes": list(self.notes),
            "checks": [
                {
                    "check": check.name,
                    "severity": check.severity,
                    "passed": check.passed,
                    "failed": len(check.failures),
                    "failures": [list(failure) for failure in check.failures],
                }
                for check in self.checks
            ],
        }


def verify(
    data_dir: Path,
    annotations: Path | None = None,
    dataset: str | Path | None = None,
    *,
    write_manifest: bool = False,
    on_progress: OnProgress = lambda *_: None,
) -> VerifyReport:
    """Check all files of a data set: unlike `open_dataset`, read every value and continue after a failure.

    Args:
        data_dir: as in `open_dataset`.
        annotations: as in `open_dataset`.
        dataset: as in `open_dataset`.
        write_manifest: whether to write `DIR/SHA256SUMS` of all feature files and the descriptor, in the format of
            `sha256sum`, and not to check against it.
        on_progress: called as files are read.

    Raises:
        MissingDataError: there is no folder, no annotations or no feature files at all.
        UserError: annotations or descriptor cannot be read, or `write_manifest` is given and files fail a check.
    """
    data = open_dataset(data_dir, annotations, dataset, allow_missing=True, checked=False, on_progress=on_progress)
    checks = [check for subset in SUBSETS for check in (_presence(data, subset), *_contents(data, subset))]
    checks += [_shapes(data)]
    checks += [*_training_labels(data), _labels(data), _trained(data), _instances(data), _extra(data)]
    if not write_manifest and os.path.lexists(data_dir / MANIFEST):
        checks += _manifest(data_dir, on_progress)
    report = VerifyReport(data.name, tuple(checks), data.notes)
    if write_manifest:
        if report.failed("bad"):
            raise UserError(f"Some files of {data_dir} are bad, so no manifest was written. Correct them first.")
        _write_manifest(data)
    return report


def _presence(data: Dataset, subset: Subset) -> Check:
    """Check that every annotated video, or a named list, has features."""
    check = Check(f"{subset}: features there", "missing")
    files = data.subsets[subset]
    check.passed = len(files.available)
    name = data.video_list(subset).name if files.available else "available-0"
    if not files.annotated:
        check.record(str(data.annotations.path), False, f"annotates no {subset} videos")
    elif not name.startswith("available-"):
        check.name += f" ({name})"
    else:
        for video, streams in files.lacking.items():
            check.record(video, False, f"no {' and '.join(streams) + ' ' if streams else ''}features")
    return check


def _contents(data: Dataset, subset: Subset) -> tuple[Check, ...]:
    """Check each file's header, width and values, and each video's streams and number of rows."""
    readable = Check(f"{subset}: files readable, [T, width] float", "bad")
    width = Check(f"{subset}: widths alike", "bad")
    finite = Check(f"{subset}: values finite", "bad")
    alike = Check(f"{subset}: streams of one length", "bad")
    length = Check(f"{subset}: rows fit durations", "bad")
    known = Check(f"{subset}: durations known", "note")
    vary = Check(f"{subset}: features vary", "note")
    differ = Check(f"{subset}: streams differ", "note")
    counts: dict[str, int] = {}
    # the widths of most videos of the first subset, which opening checked
    folder = next(files.features for files in data.subsets.values() if files.features and files.features.files)
    expected = usual_widths(folder)
    videos = data.subsets[subset].available
    for number, video in enumerate(videos, 1):
        data.on_progress("check", number, len(videos), f"{subset} videos")
        rows = []
        arrays: list[FloatArray] = []
        for stream, path, columns in zip(folder.streams, data.subsets[subset].paths(video), expected, strict=True):
            name = str(path.relative_to(data.data_dir))
            try:
                header = read_header(path)
            except UserError as error:
                readable.record(name, False, str(error))
                continue
            readable.passed += 1
            rows.append(header.rows)
            width.record(name, header.width == columns, f"{header.width}, expected {columns}")
            try:
                arrays.append(map_features(path))
                check_finite(arrays[-1], name)
                finite.passed += 1
            except UserError as error:
                finite.record(name, False, str(error))
                continue
            blank = "" if arrays[-1].any() else "all zero"
            if not blank and header.rows > 1 and (arrays[-1] == arrays[-1][0]).all():
                blank = "all rows are the same"
            vary.record(f"{video} {stream}", not blank, blank)
        if len(rows) == len(expected):
            joined = agree(rows, data.descriptor.cut_streams)
            advice = f". {remedy_for(rows)}" if max(rows) - min(rows) == 1 else ""
            alike.record(video, joined, f"{' and '.join(map(str, rows))} rows{advice}")
            usable = min(rows) if joined else rows[0]
            _record_length(length, data, video, usable)
            known.record(video, bool(data.clock.durations[video]), "no duration: its clock cannot be checked")
            counts[video] = usable
        if len(arrays) > 1:
            copied = any(np.array_equal(arrays[0], other) for other in arrays[1:])
            differ.record(video, not copied, "one stream is a copy of another")
    return readable, width, finite, alike, length, known, _late(data, subset, counts), vary, differ


def _late(data: Dataset, subset: Subset, rows: dict[str, int]) -> Check:
    """Check that instances of videos without a duration start before the last row ends."""
    check = Check(f"{subset}: instances within the rows", "note")
    try:
        found = late_instances(data, rows)
    except UserError:  # no frame rate, which the check of durations names
        return check
    late, total = (sum(one[i] for one in found.values()) for i in (0, 1))
    if 2 * late > total:
        check.severity = "bad"
    for video, (later, all_of_them, end) in found.items():
        problem = f"{later} of {all_of_them} instances start after the last row, which ends at {end:.1f} s"
        check.record(video, not later, problem)
    return check


def _shapes(data: Dataset) -> Check:
    """Check that features look like `[T, width]` arrays."""
    check = Check("shapes are plausible", "note")
    rows = {video: count for subset in SUBSETS for video, count in sample_rows(data, subset, strict=False).items()}
    unusual = shape(data, rows)[1] if rows else []
    check.passed = int(not unusual)
    for problem in unusual:
        check.record("features", False, problem)
    return check


def _record_length(check: Check, data: Dataset, video: str, rows: int) -> None:
    try:
        data.clock.row_time(video, rows)
        excess = data.clock.excess_rows(video, rows)
    except UserError as error:
        check.record(video, False, str(error))
        return
    if excess is not None:
        check.record(video, abs(excess) <= 1, f"{rows} rows, {rows - excess} fit {data.clock.durations[video]:.1f} s")


def _training_labels(data: Dataset) -> list[Check]:
    """Check that the official labels, if there are any, have every training video."""
    if data.official is None:
        return []
    check = Check("train: official labels there", "missing")
    for video in data.subsets["train"].annotated:
        check.record(video, video in data.official, f"not in {data.descriptor.labels_file}")
    return [check]


def _labels(data: Dataset) -> Check:
    """Check that every label, annotated or official, is a known class."""
    check = Check("labels known", "bad")
    official = data.official or {}
    for video, entry in sorted(data.entries.items()):
        unknown = sorted({*entry.labels, *official.get(video, entry).labels} - set(data.classes))
        check.record(video, not unknown, f"unknown {some(unknown)}")
    if data.descriptor.excludes(data.classes):
        check.record(str(data.annotations.path), False, f"its classes are not those of {data.name}")
    return check


def _trained(data: Dataset) -> Check:
    """Check that every class of the test videos has a training video, since no method can learn another."""
    check = Check("test classes have training videos", "note")
    test = {label for video in data.subsets["test"].available for label in data.entries[video].labels}
    train = {label for video in data.subsets["train"].available for label in data.facts[video].labels}
    for label in sorted(test):
        check.record(label, label in train, "in no training video")
    return check


def _instances(data: Dataset) -> Check:
    check = Check("videos have instances", "note")
    for subset, files in data.subsets.items():
        for video in sorted((*files.annotated, *files.unlabelled)):
            check.record(video, bool(data.entries[video].labels), f"a {subset} video without any")
    return check


def _extra(data: Dataset) -> Check:
    check = Check("files belong to annotated videos", "note")
    for subset, files in data.subsets.items():
        check.passed += len(files.stems)
        for stem in files.extra:
            check.record(f"{subset}: {stem}", False, "not annotated in this subset")
    return check


def _manifest(data_dir: Path, on_progress: OnProgress) -> tuple[Check, Check]:
    """Check that the files listed in `SHA256SUMS` exist and have these digests."""
    there = Check(f"{MANIFEST}: files there", "missing")
    same = Check(f"{MANIFEST}: digests", "bad")
    lines = read_limited(data_dir / MANIFEST).decode(errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        on_progress("digest", number, len(lines), "files")
        match = _LINE.fullmatch(line)
        if match is None:
            same.record(f"line {number}", False, "not `<sha256>  <path>`")
            continue
        digest, name = match.groups()
        path = data_dir / name
        if os.path.isabs(name) or ".." in path.parts:
            same.record(name, False, "leads out of the folder")
            continue
        there.record(name, os.path.isfile(path), "listed, but not there")
        if os.path.isfile(path):
            same.record(name, sha256_file(path) == digest.lower(), "content differs from the manifest's digest")
    return there, same


def _write_manifest(data: Dataset) -> None:
    labels = data.annotations.path.parent / data.descriptor.labels_file
    own = (data.data_dir / "dataset.toml", data.annotations.path, labels)
    paths = {path for path in own if os.path.isfile(path) and path.is_relative_to(data.data_dir)}
    for files in data.subsets.values():
        paths.update(path for video in files.available for path in files.paths(video))
    names = sorted((path.relative_to(data.data_dir).as_posix(), path) for path in paths)
    digests = file_digests([path for _, path in names], None, data.on_progress)
    lines = [f"{digests[path]}  {name}\n" for name, path in names]
    atomic_write(data.data_dir / MANIFEST, "".join(lines).encode())
