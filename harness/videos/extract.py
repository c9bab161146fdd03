"""Features of a folder of videos: which are done, several processes that do the others, and what describes the result.

Each finished video leaves `videos/<video>.json` in the output folder, written last. An interrupted extraction goes on
with the videos that have none.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from harness.data.descriptor import DatasetDescriptor
from harness.io.atomic import atomic_write, check_writable, remove
from harness.io.console import OnProgress
from harness.io.encoding import pretty_json
from harness.io.interrupts import unreached_by_ctrl_c
from harness.io.locks import acquire
from harness.io.reading import read_json
from harness.io.text import printable
from harness.videos.decoding import VideoFault, opened
from harness.videos.folder import VideoFile
from harness.videos.key_frames import key_frames_file
from harness.videos.rows import Extractor
from harness.videos.weights import Weights
from wstal.errors import StoreError, UserError

FACTS, FEATURES, LOCK = "videos", "features", ".lock"
LISTEN_SECONDS = 0.5  # between looks at what processes tell


@dataclass(frozen=True)
class Task:
    """What is the same for all videos of an extraction.

    Args:
        out: folder that features are written to.
        settings: clock, streams and pixels.
        weights: of each stream, RGB first.
        device: name of the device to compute on.
        threads: of each process.
    """

    out: Path
    settings: DatasetDescriptor
    weights: dict[str, Weights]
    device: str
    threads: int

    def files(self, video: str) -> dict[str, Path]:
        """Return the feature file of each stream of a video."""
        return {stream: self.out / FEATURES / stream / f"{video}.npy" for stream in self.weights}

    def facts(self, video: str) -> Path:
        """Return the file that says that a video is done."""
        return self.out / FACTS / f"{video}.json"

    def key_frames(self, video: str) -> Path:
        """Return the file of a video's key frames."""
        return key_frames_file(self.out, video)


@dataclass
class Outcome:
    """What became of the videos.

    Args:
        facts: of each video that has features: its seconds, frames, and remarks.
        faults: reason of each that has none.
        kept: number of those that were done before.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    kept: int = 0


def extract_videos(videos: Sequence[VideoFile], task: Task, processes: int, on_progress: OnProgress) -> Outcome:
    """Extract the features of all videos that have none yet.

    Args:
        videos: the videos.
        task: what is the same for all.
        processes: videos at a time.
        on_progress: called in the stage `extract` with seconds of video.

    Raises:
        StoreError: the output folder cannot be written.
        UserError: another process extracts into it.
    """
    check_writable(task.out)
    lock = acquire(task.out / LOCK)
    if lock is None:
        raise UserError(f"Another extraction into {task.out} is under way. Wait for it, or choose another folder.")
    try:
        return _extract_rest(videos, task, processes, on_progress)
    finally:
        lock.release()


def _extract_rest(videos: Sequence[VideoFile], task: Task, processes: int, on_progress: OnProgress) -> Outcome:
    # what a killed process was writing
    remove(path for path in task.out.rglob(".*.tmp") if path.is_file())
    outcome, left = Outcome(), []
    for video in videos:
        known = _known(task, video)
        if known is None:
            remove([task.facts(video.name)])
            left.append(video)
        else:
            outcome.facts[video.name] = known
    outcome.kept = len(outcome.facts)
    lengths = {video.name: length for video in left if (length := _length(video, outcome)) is not None}
    left = [video for video in left if video.name in lengths]
    progress = _Progress(lengths, on_progress)
    waiting = deque(left)
    while waiting:
        suspects = _run(waiting, task, min(processes, len(waiting)), outcome, progress)
        for video in suspects:  # each alone, so that one that ends its process takes no other with it
            if _run(deque([video]), task, 1, outcome, progress):
                outcome.faults[video.name] = "its process ended while reading it: the decoder crashes, or lacks memory"
                progress.ended(video.name)
    return outcome


def _known(task: Task, video: VideoFile) -> dict[str, Any] | None:
    """Return the facts of a video that is done, None where it or its file changed."""
    path = task.facts(video.name)
    files = [*task.files(video.name).values(), task.key_frames(video.name)]
    if not all(os.path.isfile(file) for file in (path, *files)):
        return None
    try:
        facts = read_json(path)
    except UserError:
        return None
    same = isinstance(facts, dict) and isinstance(facts.get("seconds"), float)
    return facts if same and facts.get("bytes") == video.path.stat().st_size else None


def _length(video: VideoFile, outcome: Outcome) -> float | None:
    """Return the seconds that a video states, 0 where it states none, and None where it cannot be opened."""
    try:
        with opened(video.path) as (_, _, found):
            return found.stated
    except VideoFault as fault:
        outcome.faults[video.name] = str(fault)
        return None


class _Progress:
    """Seconds of video that are done, of all."""

    def __init__(self, lengths: dict[str, float], on_progress: OnProgress) -> None:
        self.lengths, self.on_progress = lengths, on_progress
        self.done = dict.fromkeys(lengths, 0.0)
        self.finished: set[str] = set()

    def heard(self, video: str, seconds: float) -> None:
        """Note how far a video is."""
        self.done[video] = max(self.done[video], min(seconds, self.lengths[video]))
        self._tell()

    def ended(self, video: str) -> None:
        """Note that a video is done, with or without features."""
        self.finished.add(video)
        self.done[video] = self.lengths[video]
        self._tell()

    def _tell(self) -> None:
        done, total = int(sum(self.done.values())), int(sum(self.lengths.values()))
        if len(self.finished) == len(self.lengths):
            done = total
        # the end is told once, when the last video is done
        elif done >= total:
            done = max(0, total - 1)
        note = f"s of video, {len(self.finished)} of {len(self.lengths)} videos"
        self.on_progress("extract", done, max(total, 1), note)


def _run(
    waiting: deque[VideoFile], task: Task, processes: int, outcome: Outcome, progress: _Progress
) -> list[VideoFile]:
    """Extract videos in processes of their own until none waits or a process dies, and return those it had then."""
    context = get_context("spawn")
    told: SimpleQueue[tuple[str, float]] = context.SimpleQueue()
    running: dict[Future[dict[str, Any] | str], VideoFile] = {}
    broken: list[VideoFile] = []
    with _pool(ProcessPoolExecutor(processes, context, _begin, (task, told))) as pool:
        while running or (waiting and not broken):
            while waiting and not broken and len(running) < processes:
                with unreached_by_ctrl_c():
                    running[pool.submit(_extract, waiting[0])] = waiting[0]
                waiting.popleft()
            done, _ = wait(running, LISTEN_SECONDS, FIRST_COMPLETED)
            while not told.empty():
                progress.heard(*told.get())
            for future in done:
                video = running.pop(future)
                if _take(future, video, outcome):
                    progress.ended(video.name)
                else:
                    broken.append(video)
    return broken


@contextmanager
def _pool(pool: ProcessPoolExecutor) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes, which end at once where the work is interrupted."""
    try:
        yield pool
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()


def _take(future: Future[dict[str, Any] | str], video: VideoFile, outcome: Outcome) -> bool:
    """Note what became of a video, or return False where its process died."""
    try:
        found = future.result()
    except BrokenProcessPool:
        return False
    if isinstance(found, str):
        outcome.faults[video.name] = found
    else:
        outcome.facts[video.name] = found
    return True


_task: Task
_told: SimpleQueue[tuple[str, float]]
_extractor: Extractor | None = None


def _begin(task: Task, told: SimpleQueue[tuple[str, float]]) -> None:
    """Take what is the same for all videos of a process, which ends with the one that started it, also by a kill."""
    global _task, _told
    _task, _told = task, told
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _built() -> Extractor:
    """Return the process's networks, made for its first video."""
    global _extractor
    if _extractor is None:
        torch.set_num_threads(_task.threads)
        device = torch.device(_task.device)
        networks = {
            # twice as fast on CPUs
            stream: weights.network().to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            for stream, weights in _task.weights.items()
        }
        _extractor = Extractor(networks, _task.settings, device, _task.threads)
    return _extractor


def _extract(video: VideoFile) -> dict[str, Any] | str:
    """Extract a video and return its facts, or the reason why it has no features."""
    extractor, last = _built(), time.monotonic()

    def heard(seconds: float) -> None:
        nonlocal last
        if time.monotonic() - last > LISTEN_SECONDS:
            last = time.monotonic()
            _told.put((video.name, seconds))

    try:
        size = video.path.stat().st_size
        found = extractor.extract(video.path, _task.files(video.name), _task.key_frames(video.name), heard)
    except StoreError:  # nothing else can be written either
        raise
    except UserError as error:
        return str(error)
    except Exception as error:  # no video stops the others
        return printable(f"cannot be read: {type(error).__name__}: {error}")
    facts: dict[str, Any] = {
        "bytes": size,
        "seconds": found.seconds,
        "frames": found.frames,
        "frames_per_second": found.rate,
        "size": [found.width, found.height],
        "remarks": found.remarks(),
    }
    atomic_write(_task.facts(video.name), pretty_json(facts))
    return facts
