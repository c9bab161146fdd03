"""Request for one run: the command line of `run` parses into it, and engines send it as JSON to a worker process."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from harness.data.class_scores import WithClassScores
from harness.data.held_out import HeldOutSource
from harness.data.opening import open_dataset
from harness.data.synthetic import embedded_source
from harness.io.console import OnProgress
from harness.records.store import Store
from harness.runs.fitted import fitted_notes
from harness.runs.overrides import parse_assignments
from harness.runs.plans import SUFFIX, find_row
from harness.runs.spec import RunSpec, plan_run
from wstal.errors import UserError
from wstal.spec import Spec

if TYPE_CHECKING:
    from harness.data.dataset import Dataset
    from harness.data.source import DataSource
    from harness.io.console import ProgressReport


class DataRequest(Spec):
    """Options that name a data set; the embedded synthetic one by default."""

    data: Path | None = Field(None, description="folder with features/; None for the synthetic data set")
    annotations: Path | None = None
    descriptor: str | None = Field(None, description="name of a shipped descriptor, or path of a dataset.toml")
    labels: Literal["official", "annotations"] = "official"
    streams: tuple[str, ...] | None = None
    allow_missing: bool = False
    held_out: float | None = Field(None, allow_inf_nan=True, description="share of the training videos to score")
    class_scores: Path | None = Field(None, description="file of class scores of the test videos")
    full_size: bool = Field(False, description="synthetic data at 2048 columns and T = 750")

    @property
    def embedded(self) -> bool:
        """True for the small synthetic data set, which is generated from a fixed seed."""
        return self.data is None and not self.full_size

    def open(self, store: Path, on_progress: OnProgress = lambda *_: None) -> DataSource:
        """Open the data set, with digests of feature files cached in a store.

        Args:
            store: folder of runs.
            on_progress: called as many files are read.

        Raises:
            MissingDataError: a part of the data set is absent.
            UserError: a part of it cannot be used, or two options contradict each other.
        """
        source: DataSource
        if self.data is None:
            source = embedded_source(self.full_size, self.descriptor or "thumos14")
        elif self.full_size:
            raise UserError("--full-size is for the synthetic data set; leave it out with --data.")
        else:
            source = self.open_folder(Store(store).digest_cache, on_progress)
        source = source if self.held_out is None else HeldOutSource.of(source, self.held_out)
        return source if self.class_scores is None else WithClassScores.of(source, self.class_scores)

    def open_folder(self, digest_cache: Path | None = None, on_progress: OnProgress = lambda *_: None) -> Dataset:
        """Open the data set in the folder `data`.

        Args:
            digest_cache: JSON file that remembers feature files' digests.
            on_progress: called as many files are read.

        Raises:
            MissingDataError: a part of the data set is absent.
            UserError: a part of it cannot be used.
        """
        assert self.data is not None
        return open_dataset(
            self.data,
            self.annotations,
            self.descriptor,
            label_source=self.labels,
            streams=self.streams,
            allow_missing=self.allow_missing,
            digest_cache=digest_cache,
            on_progress=on_progress,
        )

    def absolute(self) -> DataRequest:
        """Return the same request with absolute paths."""
        changes: dict[str, object] = {
            name: path.absolute()
            for name in ("data", "annotations", "class_scores")
            if (path := getattr(self, name)) is not None
        }
        if self.descriptor is not None and self.descriptor.endswith(SUFFIX):
            changes["descriptor"] = str(Path(self.descriptor).absolute())
        return self.model_copy(update=changes)


class RunRequest(Spec):
    """One run as a person or a sweep asks for it; without method and row, a template for the runs of a sweep."""

    method: str | None = None
    row: str | None = Field(None, description="TABLE/ROW of an ablation plan, in place of a method")
    seed: int = 0
    data: DataRequest = DataRequest()
    overrides: tuple[str, ...] = Field((), description="FIELD=VALUE, as --set takes them; a later one wins")
    store: Path = Path("runs")
    device: str = "auto"
    threads: int | None = None
    observe: int | None = Field(None, ge=1, description="epochs between looks at test set, pseudo labels, gradients")
    expected: str | None = Field(None, description="id of the planned run; another one is refused")

    @model_validator(mode="after")
    def _one_run(self) -> RunRequest:
        if self.method is not None and self.row is not None:
            raise ValueError("give a method or a row, not both")
        return self

    def open(self, progress: ProgressReport) -> DataSource:
        """Open the data set to train on it, and report what was assumed and chosen for it.

        Args:
            progress: shows that files are read.

        Raises:
            MissingDataError, UserError: as `DataRequest.open`.
        """
        source = self.data.open(self.store, progress.reading)
        for note in (*source.notes, *fitted_notes(source)):
            progress.say(note)
        return source

    def plan(self, source: DataSource) -> RunSpec:
        """Resolve the request to a run.

        Args:
            source: the data set that the request names.

        Raises:
            UserError: no or an unknown method, row or option, or a negative seed.
        """
        row = None if self.row is None else find_row(self.row)
        method = self.method if row is None else row.method
        if method is None:
            raise UserError("A run needs a method or a row.")
        return plan_run(method, self.seed, source, parse_assignments(self.overrides), row)

    def absolute(self) -> RunRequest:
        """Return the same request with absolute paths: workers and job arrays may start in another folder."""
        return self.model_copy(update={"store": self.store.absolute(), "data": self.data.absolute()})

    def to_json(self) -> str:
        """Return the request as JSON, for a worker."""
        # not pydantic's own writer, which refuses names of files that are not UTF-8
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def from_json(cls, text: str) -> RunRequest:
        """Read what `to_json` wrote."""
        return cls.model_validate(json.loads(text))

    def to_argv(self) -> list[str]:
        """Return the arguments of `wstal-bench run` that parse into this request, except for `expected`."""
        words: list[str] = []
        for name, value in self._flat():
            option = "--" + name.replace("_", "-")
            if name == "overrides":
                words += [word for assignment in value for word in _option("--set", assignment)]
            elif isinstance(value, tuple):
                words += [option, *value]
            elif value is True:
                words.append(option)
            elif value is not None and value is not False and name != "expected":
                words += _option(option, str(value))
        return words

    def _flat(self) -> Iterator[tuple[str, Any]]:
        """Yield names and values of all fields, in place of `data` those of the data request."""
        for name, value in self:
            yield from self.data if name == "data" else [(name, value)]

    def command_line(self) -> str:
        """Return the request as one line for a shell."""
        return shlex.join(["wstal-bench", "run", *self.to_argv()])


def _option(name: str, value: str) -> list[str]:
    # argparse takes a word that begins with a dash for another option
    return [f"{name}={value}"] if value.startswith("-") else [name, value]
