"""SHA-256 digests of a data set's parts, independent of the order of keys in a file or of files in a folder."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.data.annotations import Annotations
from harness.io.atomic import atomic_write
from harness.io.console import OnProgress
from harness.io.encoding import canonical_json, sha256, sha256_file
from harness.io.reading import Status, read_json, status_of
from wstal.errors import UserError


def annotations_digest(content: Annotations) -> str:
    """Compute the digest of videos, subsets, durations, instances and excused intervals, for videos in any order.

    A video's instances keep their order, which may break ties in evaluation. Numbers count by value, so 3 equals 3.0.
    """
    videos: dict[str, list[Any]] = {
        video: [subset, None if math.isnan(duration) else duration, []]
        for video, subset, duration in zip(content.videos, content.subset, content.duration.tolist(), strict=True)
    }
    for index, label, start, end in zip(content.video, content.label, content.start, content.end, strict=True):
        videos[content.videos[index]][2].append([content.classes[label], float(start), float(end)])
    for video, untimed in content.untimed:
        videos[video][2].append([untimed])
    return sha256(canonical_json({"videos": videos, "ambiguous": sorted(content.ambiguous)}))


# entries of each cache file as it was last read or written, and without one of this process alone
_caches: dict[Path | None, tuple[Status | None, dict[str, Any]]] = {}


def file_digests(
    paths: Sequence[Path], cache_file: Path | None = None, on_progress: OnProgress = lambda *_: None
) -> dict[Path, str]:
    """Compute the digest of each file's content; one that was read before is read again where its status changed.

    Args:
        paths: the files.
        cache_file: JSON object path -> [size, mtime_ns, ctime_ns, inode, digest] of files that need not be read again
            while their status is the same. If it is absent or damaged, it is written anew.
        on_progress: called after each file that is read, in the stage `digest`.

    Raises:
        UserError: a file cannot be read.
        StoreError: the cache cannot be written.
    """
    cache = _read_cache(cache_file)
    entries: dict[str, list[Any]] = {}
    unread: dict[str, tuple[Path, Status]] = {}
    for path in paths:
        key = str(path.absolute())
        try:
            status = status_of(path.stat())
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
        entry = cache.get(key)
        if isinstance(entry, list) and len(entry) == 5 and entry[:4] == [*status] and isinstance(entry[4], str):
            entries[key] = entry
        else:
            unread[key] = path, status

    def digest(item: tuple[Path, Status]) -> list[Any]:
        path, status = item
        return [*status, sha256_file(path)]

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # hashing releases the interpreter lock
        for number, (key, entry) in enumerate(zip(unread, pool.map(digest, unread.values()), strict=True), 1):
            entries[key] = entry
            on_progress("digest", number, len(unread), "files")
    if unread:
        cache = cache | entries
        if cache_file is not None:
            atomic_write(cache_file, canonical_json(cache))
        _caches[cache_file] = _status(cache_file), cache
    return {path: str(entries[str(path.absolute())][4]) for path in paths}


def _read_cache(path: Path | None) -> dict[str, Any]:
    status = _status(path)
    known, cache = _caches.get(path, (None, {}))
    if path is None or (status is not None and known == status):
        return cache
    try:
        value = read_json(path)
    except UserError:
        return {}
    cache = value if isinstance(value, dict) else {}
    _caches[path] = status, cache
    return cache


def _status(path: Path | None) -> Status | None:
    """Return a cache file's status, None where there is no such file."""
    try:
        return None if path is None else status_of(path.stat())
    except OSError:
        return None
