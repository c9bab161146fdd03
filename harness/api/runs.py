"""Data sets, methods and runs, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import ValidationError

from harness.charts.timeline import Timeline, timeline_figure, timeline_png
from harness.comparisons.timelines import ShownRun, timeline
from harness.data.source import DataSource, Subset
from harness.data.tables import table_of
from harness.io.atomic import atomic_write
from harness.io.console import ProgressReport
from harness.io.text import problems
from harness.records.run_folder import FinishedRun
from harness.records.schema import Record
from harness.records.store import Store
from harness.runs import execute, prediction
from harness.runs.devices import pick_device
from harness.runs.overrides import parse_assignments
from harness.runs.request import DataRequest
from harness.runs.spec import plan_run
from wstal.errors import UserError
from wstal.method import Method
from wstal.types import SnippetScores

Name = str | PathLike[str]
Options = Mapping[str, Any] | Sequence[str]


def path_of(name: Name) -> Path:
    """Return a path with the home folder for `~`, as a shell gives it."""
    return Path(name).expanduser()


def load_data(folder: Name | None = None, *, store: Name = "runs", **options: Any) -> DataSource:
    """Open a data set: `videos("train")` are its videos with labels, `ground_truth("test")` is for evaluation alone.

    Args:
        folder: with features/ (default: the embedded synthetic data set).
        store: folder of runs, where digests of feature files are remembered.
        options: `annotations`, `descriptor`, `labels`, `streams`, `allow_missing`, `held_out`, as those of
            `wstal-bench run`.

    Raises:
        MissingDataError: a part of the data set is absent.
        UserError: a part of it, or an option, cannot be used.
    """
    try:
        request = DataRequest(data=None if folder is None else path_of(folder), **options)
    except ValidationError as error:
        raise UserError(f"An option of load_data cannot be used: {problems(error)}.") from error
    return request.open(path_of(store))


def build(method: str, data: DataSource, *, seed: int = 0, options: Options = ()) -> Method:
    """Return an untrained method for a data set, as a torch module with the initial weights that a run has.

    Args:
        method: registered name, see `wstal-bench ls methods`.
        data: of `load_data`.
        seed: of the weights.
        options: as of `train`.

    Raises:
        UserError: no such method or option.
    """
    # without a description, for which all features are read
    spec = plan_run(method, seed, data, _values(options), description={})
    return execute.build(spec, sum(data.stream_widths), len(data.classes), torch.device("cpu"))


def train(
    method: str,
    data: DataSource,
    *,
    seed: int = 0,
    options: Options = (),
    store: Name = "runs",
    device: str = "auto",
    threads: int | None = None,
) -> Run:
    """Train and score a method, or find the run in the store: the same run as `wstal-bench run` does.

    Args:
        method: registered name.
        data: of `load_data`.
        seed: decides every random draw.
        options: changes of the recipe, `{"train.epochs": 20}` or `["train.epochs=20"]`.
        store: folder of runs.
        device: `auto`, `cpu` or `cuda`.
        threads: of the CPU, from then on in this process (default: 1 on synthetic data, else those that torch has).

    Raises:
        UserError: a method, an option or the data cannot be used.
        RunError: the run failed.
        StoreError: the store cannot be written.
    """
    torch.set_num_threads(threads or (1 if data.synthetic else torch.get_num_threads()))
    spec = plan_run(method, seed, data, _values(options))
    with ProgressReport() as progress:
        folder, _, _ = execute.execute(spec, data, Store(path_of(store)), pick_device(device), progress.update)
    return Run(folder)


def load_run(run: Name, *, store: Name = "runs", annotations: Name | None = None) -> Run:
    """Open a finished run.

    Args:
        run: its folder, or its id.
        store: folder of runs, where an id is looked up.
        annotations: ground truth, for a run of an older version, which stored none.

    Raises:
        UserError: there is no finished run.
    """
    folder = path_of(run)
    if not folder.is_dir() and folder.parent == Path():
        folder = Store(path_of(store)).run_folder(str(run))
    return Run(folder, None if annotations is None else path_of(annotations))


class Run:
    """Finished run: what it is (`record`), its weights, scores, detections and numbers.

    Args:
        folder: of the run.
        annotations: ground truth, for a run that stored none.

    Raises:
        UserError: the folder holds no finished run.
    """

    def __init__(self, folder: Path, annotations: Path | None = None) -> None:
        self.folder = folder
        self.annotations = annotations
        self.files = FinishedRun.open(folder)
        self.shown = ShownRun(self.files, annotations)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def record(self) -> Record:
        """All that the run states of itself: method, recipe, data, numbers, environment."""
        return self.files.record

    @property
    def metrics(self) -> pd.DataFrame:
        """mAP by tIoU and its averages in percent, a row each protocol."""
        rows = {name: one.mean_ap | one.averages for name, one in self.record.metrics.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("protocol")

    @property
    def videos(self) -> tuple[str, ...]:
        """Names of the scored videos."""
        return self.shown.scores.videos

    @cached_property
    def detections(self) -> pd.DataFrame:
        """Detections: `video`, `label`, `start`, `end` (seconds), `score`."""
        return table_of(self.shown.detections)

    @cached_property
    def ground_truth(self) -> pd.DataFrame:
        """Instances of the scored videos: `video`, `label`, `start`, `end` (seconds)."""
        return table_of(self.shown.truth.truth)

    @property
    def losses(self) -> pd.DataFrame:
        """Loss terms, a row each step."""
        return pd.DataFrame(self.files.history()["steps"]).rename_axis("step")

    def scores(self, video: str) -> SnippetScores:
        """Return the snippet scores of a video, as arrays: `signals["cas"]` is `[T, C]`, `signals["attention"]` `[T]`.

        Raises:
            UserError: the run did not score it.
        """
        return self.shown.scores.video(video)

    def method(self, device: str = "cpu") -> Method:
        """Return the trained method, a torch module in evaluation mode.

        Raises:
            StoreError: the weights are damaged.
        """
        method: Method = execute.restore(self.folder, self.record.data.width, pick_device(device))[0]
        return method.eval()

    def predict(self, data: DataSource, subset: Subset = "test", device: str = "auto") -> pd.DataFrame:
        """Find actions in other videos; the columns are those of `detections`.

        Args:
            data: of `load_data`, with features of the same extractor.
            subset: `train` or `test`.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            UserError: the features are of another width.
        """
        return table_of(prediction.predict(self.folder, data.videos(subset), pick_device(device)))

    def plot(self, video: str, *others: Run, tiou: float = 0.5, start: float = 0.0, end: float | None = None) -> Plot:
        """Draw a video's timeline: ground truth, detections with hits and misses, attention, class activation.

        Args:
            video: a scored video.
            others: runs on the same data, drawn below.
            tiou: of a hit.
            start: first second to show.
            end: last second to show (default: the video's last).

        Raises:
            UserError: a run did not score the video.
        """
        shown = [run.shown for run in (self, *others)]
        return Plot(timeline(shown, video, tiou=tiou, start=start, end=end))


@dataclass(frozen=True, eq=False)
class Plot:
    """Timeline of a video, which a notebook shows.

    Args:
        timeline: what is drawn.
    """

    timeline: Timeline

    def __repr__(self) -> str:
        return f"Plot({self.timeline.video!r})"

    def _repr_png_(self) -> bytes:
        return timeline_png(self.timeline)

    def save(self, path: Name) -> None:
        """Write it as `.svg`, or `.png`.

        Raises:
            UserError: the name ends otherwise.
        """
        path = path_of(path)
        if path.suffix not in (".svg", ".png"):
            raise UserError(f"{path}: a plot is saved as .svg or .png.")
        png = path.suffix == ".png"
        content = self._repr_png_() if png else timeline_figure(path.stem, self.timeline).svg.encode()
        atomic_write(path, content)


def _values(options: Options) -> dict[str, Any]:
    """Return changes of a recipe by name."""
    return dict(options) if isinstance(options, Mapping) else parse_assignments(options)
