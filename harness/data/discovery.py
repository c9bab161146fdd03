"""Decisions behind `open_dataset`: the annotations, descriptor, subsets and streams of a data folder."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.data.annotations import ANNOTATIONS, Annotations, json_files, read_annotations, subset_kind
from harness.data.descriptor import DatasetDescriptor, shipped_descriptors, with_classes
from harness.data.feature_layout import JOINT, FeatureFolder, feature_root, find_features, named_streams
from harness.data.features import read_header
from harness.data.source import SUBSETS, Subset
from harness.io.kinds import VIDEO_FORMS, other_files
from harness.io.text import printable
from wstal.errors import MissingDataError, UserError
from wstal.evaluation.protocols import THUMOS14_VIDEO

# assumed of features that nothing describes
ASSUMED = {
    "extractor": "unknown",
    "fps": 25.0,
    "fps_file": None,
    "resampled": False,
    "snippet_frames": 16,
    "stride": 16,
    "streams": (),
}


class Columns(NamedTuple):
    """Feature columns that are used.

    Args:
        streams: stream names in joining order, or `("joint",)`.
        widths: columns of each stream, or of all together where joint files do not state them.
        range: range of columns in joint files, None for all.
    """

    streams: tuple[str, ...]
    widths: tuple[int, ...]
    range: tuple[int, int] | None

    @property
    def width(self) -> int:
        """Number of all columns."""
        return sum(self.widths)


def find_annotations(
    data_dir: Path, given: Path | None, descriptor: DatasetDescriptor | None, notes: list[str]
) -> Annotations:
    """Find and read the annotations: the given file or folder, the descriptor's file, or a file beside the folder.

    The last is `DIR/../<family>/annotations.json` of a known data set that annotates the features found in DIR.

    Args:
        data_dir: folder of the data set.
        given: file or folder that the user named.
        descriptor: stated facts, if any.
        notes: notes for people, to which one may be added.

    Raises:
        MissingDataError: none of these exists.
        UserError: the file is not an annotation file.
    """
    own = data_dir / (descriptor.annotations if descriptor else ANNOTATIONS)
    if given is not None or os.path.isfile(own):
        return read_annotations(given or own)
    families = [descriptor.family] if descriptor else sorted({d.family for d in shipped_descriptors().values()})
    for family in families:
        path = data_dir.resolve().parent / family / ANNOTATIONS
        if os.path.isfile(path):
            content = read_annotations(path)
            if _annotates(content, data_dir):
                notes.append(f"Took the annotations beside the folder: {path}")
                return content
    if videos := other_files(data_dir, VIDEO_FORMS):
        raise MissingDataError(
            f"No annotations and no features: {data_dir} holds videos ({videos}). Make features of them first: "
            f"`wstal-bench data extract {data_dir} --out DIR`."
        )
    others = json_files(data_dir) or ""
    raise MissingDataError(
        f"No annotations: there is no {own}, nor annotations.json of a known data set beside the folder. "
        f"Pass the annotation file or its folder as --annotations{others and f', such as {others[0]}'}."
    )


def _annotates(content: Annotations, data_dir: Path) -> bool:
    """Return whether most feature files belong to annotated videos."""
    stems = {path.stem for path in feature_root(data_dir).rglob("*.npy")}
    known = set(content.videos)
    return 2 * sum(stem in known or stem.removeprefix("v_") in known for stem in stems) > len(stems)


def recognise(data_dir: Path, content: Annotations, notes: list[str]) -> DatasetDescriptor:
    """Find the shipped descriptor of these classes and streams, else make one with assumed facts and a note.

    Args:
        data_dir: folder of the data set.
        content: its annotations.
        notes: notes for people, to which one is added.
    """
    same = with_classes(content.classes)
    fitting = {descriptor.name: _fit(data_dir, content, descriptor) for descriptor in same}
    best = max(same, key=lambda descriptor: fitting[descriptor.name], default=None)
    if best is not None and fitting[best.name]:
        notes.append(f"Recognised {best.name} by its classes and feature width: {best.extractor}.")
        return best
    notes.append(
        f"Nothing describes these features{f' of {same[0].family}' if same else ''}: assumed 25 frames per second and "
        f"16-frame snippets without overlap, 0.64 s per row. State the true values in {data_dir / 'dataset.toml'}."
    )
    if same:
        base = shipped_descriptors().get(same[0].family, same[0])
        return base.model_copy(update={"name": f"{base.family}-generic", **ASSUMED})
    name = re.sub(r"[^a-z0-9]+", "_", data_dir.resolve().name.lower()).strip("_")[:80] or "dataset"
    if name in shipped_descriptors():
        name += "_generic"
    return DatasetDescriptor.model_validate({"name": name, "title": printable(data_dir.resolve().name), **ASSUMED})


def _fit(data_dir: Path, content: Annotations, descriptor: DatasetDescriptor) -> int:
    """Count the descriptor's streams that the files have, 0 if any width differs."""
    found = [folder for folder in locate(data_dir, content, descriptor, None).values() if folder and folder.files]
    try:
        counts = [len(choose_columns(descriptor, [folder], None, []).widths) for folder in found]
    except UserError:
        return 0
    return min(counts, default=0)


def usual_widths(folder: FeatureFolder) -> tuple[int, ...]:
    """Read the most frequent widths of the streams of eight videos.

    Raises:
        UserError: none of the eight can be read. The error is the first video's.
    """
    failure: UserError | None = None
    widths = []
    for stem in list(folder.files)[:8]:
        try:
            widths.append(tuple(read_header(path).width for path in folder.files[stem]))
        except UserError as error:
            failure = failure or error
    if not widths:
        lacking = f"No video in {folder.folder} has all of {', '.join(folder.streams)}. Add them."
        raise failure or MissingDataError(lacking)
    return Counter(widths).most_common(1)[0][0]


def subset_names(content: Annotations, descriptor: DatasetDescriptor) -> dict[Subset, str | None]:
    """Find the annotation file's name of each subset: the descriptor's first name with labels there.

    Names are compared by `subset_kind`. A name that has videos but no label counts where no other name has videos. The
    test subset is found first, so that `validation` is the training part only of a file that also has a test part
    (THUMOS14), and it is the test part of every file that has a training part and no test part.

    Args:
        content: the annotations.
        descriptor: facts with the possible names.

    Raises:
        UserError: two names stand for one subset.
    """
    labels, own = Counter(dict.fromkeys(content.subsets, 0)), dict(zip(content.videos, content.subset, strict=True))
    labels.update(content.subset[video] for video in content.video.tolist())
    labels.update(own[video] for video, _ in content.untimed)
    labelled = {subset_kind(name) for name, count in labels.items() if count}
    chosen: dict[Subset, str | None] = {"train": None, "test": None}
    for subset in reversed(SUBSETS):
        stated = descriptor.subset(subset).annotation
        kinds = [subset_kind(name) for name in stated]
        if subset == "test" and "training" in labelled and "test" not in labelled:
            kinds.append("validation")
        ranks = {
            name: (count == 0, kinds.index(subset_kind(name)))
            for name, count in labels.items()
            if subset_kind(name) in kinds and name not in chosen.values()
        }
        best = [name for name, rank in ranks.items() if rank == min(ranks.values())]
        best = [name for name in best if name in stated] or best
        if len(best) > 1 and labels[best[0]]:
            raise UserError(
                f"{content.path} has subsets {' and '.join(map(repr, best))}. "
                f"Choose one in dataset.toml: [{subset}] annotation = [{json.dumps(best[0])}], with its folders."
            )
        chosen[subset] = best[0] if best else None
    _check_thumos14(content, chosen)
    return chosen


def _check_thumos14(content: Annotations, chosen: dict[Subset, str | None]) -> None:
    """Refuse THUMOS14's test videos as the training set, and its validation videos as the test set."""
    wrong_names: tuple[tuple[Subset, str], ...] = (("train", "video_test_"), ("test", "video_validation_"))
    for subset, official in wrong_names:
        videos = [name for name, own in zip(content.videos, content.subset, strict=True) if own == chosen[subset]]
        if wrong := [name for name in videos if name.startswith(official) and THUMOS14_VIDEO.fullmatch(name)]:
            other = "test" if subset == "train" else "training"
            raise UserError(
                f"{content.path}: the {subset} subset {chosen[subset]!r} has {wrong[0]}, one of THUMOS14's {other} "
                f"videos ({len(wrong)} such). Name the subsets in dataset.toml: [{subset}] annotation = [...]."
            )


def locate(
    data_dir: Path, content: Annotations, descriptor: DatasetDescriptor, streams: Sequence[str] | None
) -> dict[Subset, FeatureFolder | None]:
    """Find each subset's feature files, first in a folder with the subset's name in the annotation file.

    Args:
        data_dir: folder of the data set.
        content: its annotations.
        descriptor: facts with the possible names of folders and streams.
        streams: only streams to use, None for all.

    Raises:
        UserError: `streams` names one that the descriptor does not have.
    """
    known = stream_names(descriptor)
    for name in streams or ():
        if name not in known:
            raise UserError(f"{descriptor.name} has no stream {name!r}. Its streams: {', '.join(known)}.")
    wanted = [name for name in known if streams is None or name in streams]
    root, names = feature_root(data_dir), subset_names(content, descriptor)
    folders = {subset: (*filter(None, [own]), *descriptor.subset(subset).folders) for subset, own in names.items()}
    suffixes = descriptor.file_suffixes
    return {subset: find_features(root, possible, wanted, suffixes) for subset, possible in folders.items()}


def naming_advice(
    folders: Iterable[FeatureFolder | None], content: Annotations, descriptor: DatasetDescriptor
) -> str | None:
    """Return how files are named around the videos' ids and the keys that tell it, or None where some files fit.

    Args:
        folders: feature files of each subset.
        content: the annotations.
        descriptor: facts with the streams and the known prefixes.
    """
    videos = set(content.videos)
    stems = [stem for folder in folders if folder for stem in (*folder.files, *folder.incomplete)]
    if any(prefix and stem.removeprefix(prefix) in videos for stem in stems for prefix in descriptor.file_prefixes):
        return None
    around: Counter[tuple[str, str]] = Counter()
    for stem in (sample := stems[:: max(1, len(stems) // 200)]):
        cuts = ((i, j) for i in range(len(stem)) for j in range(len(stem), i, -1) if stem[i:j] in videos)
        if cut := max(cuts, key=lambda cut: cut[1] - cut[0], default=None):
            around[stem[: cut[0]], stem[cut[1] :]] += 1
    if 2 * around.total() <= len(sample) or ("", "") in around:
        return None
    prefixes = [prefix for prefix, _ in around]
    streams = named_streams(stream_names(descriptor), [suffix for _, suffix in around])
    suffixes = list(streams.values()) or [around.most_common(1)[0][0][1]]
    keys = [f'file_prefixes = ["{prefixes[0]}"]'] if prefixes[0] else []
    keys += [f"file_suffixes = {json.dumps(suffixes)}"] if suffixes[0] else []
    return (
        f"No feature file has the name of a video alone: there is {stems[0]}.npy. "
        f"State {' and '.join(keys)} in dataset.toml."
    )


def stream_names(descriptor: DatasetDescriptor) -> tuple[str, ...]:
    """Return the descriptor's streams in joining order, or `rgb` and `flow` where it states none."""
    return tuple(stream.name for stream in descriptor.streams) or ("rgb", "flow")


def choose_columns(
    descriptor: DatasetDescriptor,
    found: Iterable[FeatureFolder | None],
    streams: Sequence[str] | None,
    notes: list[str],
) -> Columns:
    """Choose the columns that the files give, and check them against the descriptor's widths.

    Args:
        descriptor: facts about the data set.
        found: feature files of each subset.
        streams: only streams to use, None for all.
        notes: notes for people, to which one may be added.

    Raises:
        MissingDataError: there are no files at all.
        UserError: the subsets have different streams, a width is not the stated one, or part of joint files is wanted
            and the widths are not stated.
    """
    folders = [folder for folder in found if folder is not None]
    if len({folder.streams for folder in folders}) > 1:
        parts = " and ".join(f"{'+'.join(folder.streams)} in {folder.folder}" for folder in folders)
        raise UserError(
            f"The subsets have different streams: {parts}. Add the missing one, or select one with --streams."
        )
    folder = next((folder for folder in folders if folder.files), folders[0])
    widths = usual_widths(folder)
    known, stated = stream_names(descriptor), {stream.name: stream.width for stream in descriptor.streams}
    if folder.streams == (JOINT,):
        return _joint_columns(descriptor, folder, widths[0], streams)
    for name, width in zip(folder.streams, widths, strict=True):
        _check_width(f"{name} features in {folder.folder}", width, descriptor, stated.get(name))
    if streams is None and descriptor.streams and len(folder.streams) < len(known):
        notes.append(f"Of the streams {', '.join(known)}, there is only {', '.join(folder.streams)}.")
    return Columns(folder.streams, widths, None)


def _check_width(features: str, width: int, descriptor: DatasetDescriptor, stated: int | None) -> None:
    if stated not in (None, width):
        raise UserError(
            f"{features} have width {width}, {descriptor.name} states {stated}. "
            "Choose another --descriptor, or describe them in dataset.toml."
        )


def _joint_columns(
    descriptor: DatasetDescriptor, folder: FeatureFolder, width: int, streams: Sequence[str] | None
) -> Columns:
    widths = tuple(stream.width for stream in descriptor.streams if stream.width is not None)
    all_stated = len(widths) == len(descriptor.streams) > 0
    _check_width(f"Features in {folder.folder}", width, descriptor, sum(widths) if all_stated else None)
    known = stream_names(descriptor)
    if streams is None or set(streams) == set(known):
        return Columns((JOINT,), widths if all_stated else (width,), None)
    if not all_stated:
        raise UserError(f"Cannot take {', '.join(streams)} from joint files: state every width in dataset.toml.")
    first = min(known.index(name) for name in streams)
    chosen = known[first : first + len(streams)]
    if set(chosen) != set(streams):
        raise UserError(f"Cannot take {', '.join(streams)} from joint files: they are not neighbours. Split the files.")
    start, kept = sum(widths[:first]), widths[first : first + len(streams)]
    return Columns(chosen, kept, (start, start + sum(kept)))
