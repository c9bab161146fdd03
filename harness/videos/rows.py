"""Feature rows of one video, computed window by window while its frames are decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from harness.data.descriptor import DatasetDescriptor
from harness.io.atomic import atomic_file, atomic_write
from harness.videos.decoding import Footage, Frame, VideoFault, upright_frames
from harness.videos.flow import flows
from harness.videos.key_frames import KeyFrames
from wstal.backbones.i3d import InceptionI3d

CPU_BATCH, GPU_BATCH = 2, 16  # windows at a time


@dataclass(frozen=True)
class Extractor:
    """Networks and settings that make features of videos.

    Args:
        networks: of each stream, RGB first, on their device.
        settings: clock, streams and pixels.
        device: where the networks compute.
        threads: of the decoder and of the optical flow.
    """

    networks: dict[str, InceptionI3d]
    settings: DatasetDescriptor
    device: torch.device
    threads: int

    def extract(self, path: Path, files: dict[str, Path], key_frames: Path, heard: Callable[[float], None]) -> Footage:
        """Write the features of a video, `[T, width]` float32 a stream, and its key frames, or nothing.

        Args:
            path: the video file.
            files: feature file of each stream.
            key_frames: file of the key frames.
            heard: called with the seconds of the video that are done, now and then.

        Returns:
            What was found in the file.

        Raises:
            VideoFault: the video gives no features.
            StoreError: the files cannot be written.
        """
        found, rows, side = Footage(0, 0, 0, 0), 0, self._pixels.short_side
        pictures = KeyFrames()
        with ExitStack() as stack:
            written = {
                stream: FeatureFile(stack.enter_context(atomic_file(file)), self.networks[stream].width)
                for stream, file in files.items()
            }
            rate = self._rate
            frames = pictures.watch(upright_frames(path, rate, side, self.threads, found), rate)
            for windows in _batches(self._windows(frames), GPU_BATCH if self.device.type == "cuda" else CPU_BATCH):
                for stream, file in written.items():
                    file.add(self._features(stream, [window[stream] for window in windows]))
                rows += len(windows)
                heard(rows * self.settings.stride / rate)
            if not rows:
                raise VideoFault(
                    f"too short: {found.seconds:.2f} s, a row describes {self.settings.snippet_frames / rate:.2f} s"
                )
            for file in written.values():
                file.finish()
        atomic_write(key_frames, pictures.encoded())
        return found

    @property
    def _rate(self) -> float:
        assert self.settings.fps is not None
        return self.settings.fps

    @property
    def _pixels(self) -> Any:
        assert self.settings.extraction is not None
        return self.settings.extraction

    def _windows(self, frames: Iterator[Frame]) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """Yield what each row describes: `[snippet_frames, crop, crop, channels]` of each stream."""
        one, other = tee(frames)  # the flow is one frame ahead, so that few frames are held
        streams: dict[str, Iterator[npt.NDArray[Any]]] = {}
        if "rgb" in self.networks:
            streams["rgb"] = map(self._cropped, one)
        if "flow" in self.networks:
            moved = flows(other, self._pixels.flow_bound, self.threads)
            streams["flow"] = map(self._cropped, moved)
        del one, other
        held: deque[dict[str, npt.NDArray[Any]]] = deque(maxlen=self.settings.snippet_frames)
        for number, parts in enumerate(zip(*streams.values(), strict=True), 1):
            held.append(dict(zip(streams, parts, strict=True)))
            past = number - self.settings.snippet_frames
            if past >= 0 and past % self.settings.stride == 0:
                yield {stream: np.stack([frame[stream] for frame in held]) for stream in streams}

    def _cropped(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        size = self._pixels.crop
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        return image[top : top + size, left : left + size]

    def _features(self, stream: str, windows: list[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        clips = torch.from_numpy(np.stack(windows)).to(self.device).permute(0, 4, 1, 2, 3).float()
        if stream == "rgb":
            clips = clips / 127.5 - 1
        with torch.inference_mode():
            # twice as fast on CPUs
            features: torch.Tensor = self.networks[stream](clips.contiguous(memory_format=torch.channels_last_3d))
        return np.asarray(features.cpu())


class FeatureFile:
    """`.npy` file that rows are added to; NumPy's header leaves room for their number.

    Args:
        file: open and empty.
        width: columns.
    """

    def __init__(self, file: BinaryIO, width: int) -> None:
        self.file, self.width, self.rows = file, width, 0
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self.width)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def add(self, rows: npt.NDArray[np.float32]) -> None:
        """Add `[n, width]` rows."""
        self.rows += len(rows)
        self.file.write(rows.astype("<f4", copy=False).tobytes())

    def finish(self) -> None:
        """Write the number of rows, after the last."""
        start = self.file.tell()
        self.file.seek(0)
        self._write_header()
        assert start == self.file.tell() + 4 * self.rows * self.width


def _batches(windows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    batch = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
