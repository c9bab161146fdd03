"""Facts about a data set that its feature files do not show, read from `dataset.toml`.

These are the clock, the streams, the splits and the named lists of videos.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness.data.extraction import Extraction
from harness.data.source import Subset
from harness.io.reading import parse_toml, read_toml
from harness.io.text import check_text, did_you_mean, field, printable, problem
from wstal.errors import MissingDataError, UserError
from wstal.evaluation import get_protocol, parse_tious
from wstal.spec import Spec


def list_digest(names: Iterable[str]) -> str:
    r"""Return the SHA-256 of sorted names joined by newlines (none at the end) in UTF-8, the identity of a list.

    >>> list_digest(["b", "a"]) == list_digest(["a", "b"])
    True
    """
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


_CLOCK = {"fps", "fps_file", "resampled"}
_SLOWEST, _FASTEST = 1e-3, 1e4  # frames per second


def is_frame_rate(value: float) -> bool:
    """Return whether a number can be frames per second, from 0.001 to below 10,000 and neither NaN nor infinity."""
    return _SLOWEST <= value < _FASTEST


# pages and tables of a data set are files with its name, which other pages must not have
RESERVED = re.compile(
    r"(readme|interpretations|overview|tables|figures|(table_|rescored|audit).*"
    r"|.*-(ablations|protocols|curves|intervals))"
)
LONGEST_DATA_NAME = 100


def _no_page(name: str) -> str:
    if RESERVED.fullmatch(name):
        raise ValueError(f"{name!r} is the name of other pages or tables; name the data set otherwise")
    if len(name) > LONGEST_DATA_NAME:
        raise ValueError(f"it is longer than {LONGEST_DATA_NAME} characters, and runs and pages are files of its name")
    return name


def accepted_by(check: Callable[[Any], object]) -> AfterValidator:
    """Return a validator of a field that turns the error of `check` into one about the field."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except UserError as error:
            raise ValueError(str(error).removesuffix(".")) from error
        return value

    return AfterValidator(validate)


def _text_of_tious(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f'expected text, as "0.1:0.1:0.7" or "0.3,0.5,0.7", got {value}')
    return value


def _inside(value: str) -> str:
    if os.path.isabs(value) or ".." in re.split(r"[/\\]", value):
        raise ValueError(f"expected a folder below the data's, got {value!r}")
    return value


# number of rows, columns, frames or videos, limited so that a typing error does not exhaust memory
Count = Annotated[int, Field(strict=True, gt=0, le=1_000_000)]

# text of one line
Line = Annotated[str, accepted_by(lambda text: check_text(text, "the text"))]
# folder below the data set's own, because a data set from elsewhere must not point outside
Folder = Annotated[Line, AfterValidator(_inside)]

# short name of a data set
DataName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$"), AfterValidator(_no_page)]


class Stream(Spec):
    """Feature columns of one modality.

    Args:
        name: the stream's folder name, as `rgb`.
        width: feature columns (unset: whatever the files have, as long as they agree).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    width: Count | None = None


class SubsetNames(Spec):
    """Names of a subset outside this package.

    Args:
        annotation: names in the annotation file, compared without case. The first that has annotated videos counts.
        folders: names of its feature folder. The first that exists counts.
    """

    annotation: tuple[Line, ...]
    folders: tuple[Folder, ...]


class ListRule(Spec):
    """Named list of videos, defined by a rule and checked by its digest, so that the list itself is not stored.

    Args:
        name: the name that a number's identity carries, as `thumos14-test-212`.
        subset: subset whose annotated videos belong to the list, except those of `exclude`.
        exclude: videos of the subset that do not belong to the list. Ids without annotation are allowed. Where they
            are too many to name, the videos that have features are known by the digest alone.
        count: number of videos in the list.
        sha256: `list_digest` of its videos.
        instances: numbers of instances in them that go by this name; empty: any number.
        truth: name of the annotated list, if that has videos which runs of this list do not predict and some protocols
            count as missed: their annotations are known to be wrong, or their features are not to be had.
    """

    name: Line
    subset: Subset
    exclude: tuple[str, ...] = ()
    count: Count
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    instances: tuple[Count, ...] = ()
    truth: str | None = None

    def apply(self, annotated: Iterable[str], instances: Mapping[str, int] | None = None) -> tuple[str, ...] | None:
        """Return the sorted videos of the list, or None where the annotations are not those of the list.

        Args:
            annotated: names of the annotated videos.
            instances: number of instances in each video, by default not looked at.
        """
        videos = tuple(sorted(set(annotated) - set(self.exclude)))
        known = instances is None or self.counts(videos, instances)
        return videos if known and list_digest(videos) == self.sha256 else None

    def counts(self, videos: Iterable[str], instances: Mapping[str, int]) -> bool:
        """Return whether these videos have a number of instances that goes by the list's name.

        Args:
            videos: names of the videos.
            instances: number of instances in each video.
        """
        return not self.instances or sum(instances.get(video, 0) for video in videos) in self.instances


class DatasetDescriptor(Spec):
    """Facts about a data set that its files do not show. Paths are relative to the folder of the annotations."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: DataName
    """Short name, whose part before the first `-` is the family of data sets that share annotations."""
    title: Line
    """Name for people."""
    extractor: Line
    """Network and training data of the features, as `I3D (Kinetics-400)`."""
    streams: tuple[Stream, ...] = ()
    """Streams in joining order (RGB first); empty: `rgb`, `flow` or whole files, as found."""
    fps: float | None = Field(default=None, strict=True, ge=_SLOWEST, lt=_FASTEST)
    """Frames per second of the videos as the extractor saw them."""
    fps_file: Line | None = None
    """JSON object video -> frames per second, where each video kept its own rate."""
    snippet_frames: Count = 16
    """Frames in the window that one row describes."""
    stride: Count = 16
    """Frames from one row's window to the next; more than `snippet_frames` leaves gaps, as TSN's single frames do."""
    cut_streams: bool = Field(default=False, strict=True)
    """Cut the longer stream of a video whose streams differ by one row: optical flow has a frame less than RGB."""
    resampled: bool = Field(default=False, strict=True)
    """Each video was stretched to a fixed number of rows: a row lasts duration / rows, and there is no frame rate."""
    train: SubsetNames = SubsetNames(annotation=("training", "train", "validation"), folders=("train", "training"))
    """The training videos' subset."""
    test: SubsetNames = SubsetNames(
        annotation=("test", "testing", "validation", "val"), folders=("test", "val", "validation", "testing")
    )
    """The scored videos' subset."""
    file_prefixes: tuple[str, ...] = ("",)
    """Strings that may precede a video's id in its file name, as `v_` for ActivityNet."""
    file_suffixes: tuple[str, ...] = ("",)
    """Strings that may follow a video's id in its file name. One that names a stream, as `_rgb`, tells the stream of
    files that stand in one folder; files with none of the suffixes are ignored."""
    classes: tuple[Line, ...] = ()
    """Class names; empty: those in the annotations."""
    class_file: Line | None = None
    """Text file with one class name per line, in place of `classes`."""
    class_digests: tuple[str, ...] = ()
    """`list_digest` of the class names, one per spelling in circulation, in place of the names."""
    coarse_classes: dict[Line, tuple[Line, ...]] = Field({})
    """Classes of each coarse class by its name, where the classes are grouped; HAAN trains on both levels. Names that
    are no classes are ignored, so that several spellings may stand side by side."""
    annotations: Line = "annotations.json"
    """ActivityNet-style annotation file."""
    labels_file: Line = "video_labels.json"
    """Official video-level labels, true durations; used where the file exists."""
    ambiguous: Line = "Ambiguous_test.txt"
    """Intervals that some protocols excuse; used where the file exists."""
    lists: tuple[ListRule, ...] = ()
    """Named lists of videos. Features may lack annotated videos only where the rest is one of these."""
    extraction: Extraction | None = None
    """How `wstal-bench data extract` made the features."""
    sample_length: Count | None = None
    """Snippets T that training samples from a video, from the paper."""
    tious: Annotated[str, BeforeValidator(_text_of_tious), accepted_by(parse_tious)] = "0.1:0.1:0.7"
    """tIoU thresholds of the data set's headline mAP, written as for `wstal-bench evaluate --tious`: `0.1:0.1:0.7` or
    `0.3,0.5,0.7`. A range and a list of the same decimals are not the same floats (see `parse_tious`)."""
    headline: Annotated[str, accepted_by(get_protocol)] = "anet"
    """Evaluation protocol whose mAP ranks methods; `wstal-bench ls protocols` lists them."""

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The tIoU thresholds of the headline mAP, as the evaluator takes them."""
        return parse_tious(self.tious)

    @property
    def family(self) -> str:
        """The name before the first `-`: data sets of one family share annotations."""
        return self.name.split("-")[0]

    @property
    def class_sets(self) -> frozenset[str]:
        """Digests of the class sets that this data set is known by; empty where it states none."""
        return frozenset((*self.class_digests, *([list_digest(self.classes)] if self.classes else [])))

    def excludes(self, classes: Iterable[str]) -> bool:
        """Return whether these classes are none of the data set's class sets, if it states any."""
        return bool(self.class_sets) and list_digest(classes) not in self.class_sets

    def subset(self, name: Subset) -> SubsetNames:
        """Return the names of the training or the test subset."""
        return self.train if name == "train" else self.test

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.resampled == (self.fps is not None or self.fps_file is not None):
            raise ValueError("state `fps` or `fps_file`, or else `resampled = true`")
        if self.fps is not None and self.fps_file is not None:
            raise ValueError("state one of `fps` and `fps_file`, not both")
        grouped = [name for names in self.coarse_classes.values() for name in names]
        for key, names in (
            ("streams", [s.name for s in self.streams]),
            ("classes", list(self.classes)),
            ("coarse_classes", grouped),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"`{key}` names one twice: {names}")
        return self


def read_descriptor(path: Path) -> DatasetDescriptor:
    """Read a descriptor from a TOML file.

    A file may extend a shipped one: `extends = "thumos14"` takes everything that the file does not state itself, but
    nothing about the clock if the file states `fps`, `fps_file` or `resampled`. A file that states anything else needs
    its own `name`.

    Raises:
        UserError: the file does not exist, cannot be read, is not TOML, has an unknown key or an invalid value.
    """
    try:
        stated = read_toml(path, "Give one such as `wstal-bench ls keys` describes.")
    except MissingDataError as error:  # wrong usage, no missing data
        raise UserError(f"There is no descriptor {path}. Check the path.") from error
    return _validated(stated, str(path))


def _validated(stated: dict[str, Any], source: str) -> DatasetDescriptor:
    try:
        return DatasetDescriptor.model_validate(_extended(stated, source))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems = "; ".join(
            f"`{field(item['loc'])}`: {_problem(item['type'], item['msg'], item['loc'])}" for item in found[:9]
        )
        raise UserError(f"{source}: {problems}.") from error


def _extended(stated: dict[str, Any], source: str) -> dict[str, Any]:
    base = stated.pop("extends", None)
    if base is None:
        return stated
    if not isinstance(base, str) or base not in shipped_descriptors():
        known = ", ".join(shipped_descriptors())
        raise UserError(f"{source}: `extends`: unknown data set {printable(repr(base))}. Known: {known}.")
    if stated and "name" not in stated:
        raise UserError(f"{source}: state a `name` of its own, such as {base + '-mine'!r}: numbers carry it.")
    return shipped_descriptors()[base].model_dump(exclude=_CLOCK if _CLOCK & stated.keys() else set()) | stated


def _problem(kind: str, message: str, location: tuple[int | str, ...]) -> str:
    if kind != "extra_forbidden":
        return problem(message)
    hint = did_you_mean(str(location[-1]), DatasetDescriptor.model_fields).strip("; .")
    return f"unknown key, {hint or 'remove it'}"


@cache
def shipped_descriptors() -> dict[str, DatasetDescriptor]:
    """Return the shipped descriptors by name, sorted."""
    folder = resources.files("harness") / "shipped" / "datasets"
    files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    descriptors = [_validated(parse_toml(file.read_text(encoding="utf-8")), file.name) for file in files]
    return {descriptor.name: descriptor for descriptor in sorted(descriptors, key=lambda item: item.name)}


def find_descriptor(name_or_path: str | Path) -> DatasetDescriptor:
    """Return the shipped descriptor with a name, or the descriptor in a TOML file.

    Raises:
        UserError: neither exists. The message names the known ones.
    """
    known, name, path = shipped_descriptors(), str(name_or_path), Path(name_or_path)
    if name in known:
        return known[name]
    if path.suffix == ".toml" or os.path.isfile(path):
        return read_descriptor(path)
    hint = did_you_mean(name, known)
    raise UserError(f"Unknown data set {name!r}{hint} Known: {', '.join(known)}; or give a TOML file.")


def with_classes(classes: Iterable[str]) -> list[DatasetDescriptor]:
    """Return the shipped descriptors with exactly these classes, sorted by name."""
    digest = list_digest(classes)
    return [known for known in shipped_descriptors().values() if digest in known.class_sets]


def family_of(classes: Iterable[str]) -> str:
    """Return the family of the shipped data set with exactly these classes, or an empty text."""
    return next((known.family for known in with_classes(classes)), "")
