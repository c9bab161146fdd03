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
from harness.io.encoding import canonical_json, sha256, sha256_file
from harness.io.reading import read_json
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


def file_digests(paths: Sequence[Path], cache_file: Path | None = None) -> dict[Path, str]:
    """Compute the digest of each file's content.

    Args:
        paths: the files.
        cache_file: JSON object path -> [size, mtime_ns, ctime_ns, inode, digest] of files that need not be read again
            while their status is the same. If it is absent or damaged, it is written anew.

    Raises:
        UserError: a file cannot be read.
        StoreError: the cache cannot be written.
    """
    cache = _read_cache(cache_file)

    def digest(path: Path) -> tuple[str, list[Any]]:
        try:
            status, key = path.stat(), str(path.absolute())
            # change time and inode reveal a file that was replaced by one of equal size and modification time
            known = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
            entry = cache.get(key)
            if isinstance(entry, list) and len(entry) == 5 and entry[:4] == known and isinstance(entry[4], str):
                return key, entry
            return key, [*known, sha256_file(path)]
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:  # hashing releases the interpreter lock
        entries = list(pool.map(digest, paths))
    if cache_file is not None and any(cache.get(key) != entry for key, entry in entries):
        atomic_write(cache_file, canonical_json(cache | dict(entries)))
    return {path: str(entry[4]) for path, (_, entry) in zip(paths, entries, strict=True)}


def _read_cache(path: Path | None) -> dict[str, Any]:
    try:
        value = read_json(path) if path is not None else {}
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}
