"""Frames of a video file, upright, resized and at a constant rate, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.videos.extra import need
from wstal.errors import UserError

if TYPE_CHECKING:
    from fractions import Fraction

Frame = npt.NDArray[np.uint8]  # [H, W, 3] RGB

LEAST_DECODED = 0.9  # share of the stated length below which a file counts as cut short
EVEN = (0.75, 1.3)  # time between two frames over the usual one, of a constant rate
UNEVEN = 0.02  # share of frames that are not so from which on the rate counts as variable
SPARE_SECONDS = 60.0  # a time of a frame beyond twice the stated length and this is damage


class VideoFault(UserError):
    """Reason why a video gives no features, for its line in the summary."""


@dataclass
class Footage:
    """What a file states about its video, and what decoding it found.

    Args:
        width: pixels of a frame as it is stored.
        height: of the same.
        rate: stated frames per second, 0 where unknown.
        stated: seconds, 0 where unknown.
        seconds: from the first frame to the end of the last decoded one.
        frames: number of decoded frames.
        rotation: degrees by which frames are turned to stand upright.
        damaged: number of packets that could not be decoded.
        uneven: number of frames that come earlier or later than at the stated rate.
    """

    width: int
    height: int
    rate: float
    stated: float
    seconds: float = 0.0
    frames: int = 0
    rotation: int = 0
    damaged: int = 0
    uneven: int = 0

    def remarks(self) -> list[str]:
        """Return what is unusual about the video, in words."""
        found = []
        if self.rotation:
            found.append(f"turned upright by {self.rotation} degrees")
        if self.uneven > UNEVEN * self.frames:
            found.append(f"its frame rate varies, {self.frames / self.seconds:.4g} frames/s on average")
        if self.damaged:
            found.append(f"{self.damaged} damaged packets were left out")
        if self.stated - self.seconds > max(1.0, 0.02 * self.stated):
            found.append(f"{self.seconds:.1f} of {self.stated:.1f} s could be decoded")
        return found


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any, Footage]]:
    """Open a video file: the container, its video stream, and what it states.

    Args:
        path: the file.

    Raises:
        VideoFault: the file cannot be opened, or has no video.
    """
    av = need("av")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoFault(f"no readable video file ({reason})") from error
    with container:
        # a picture of an album's cover is a stream of video, too
        videos = [one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic]
        if not videos:
            raise VideoFault("no video in it" + (", only sound" if container.streams.audio else ""))
        stream = videos[0]
        context = stream.codec_context
        if context is None or not context.width or not context.height:
            raise VideoFault("no decoder for its video, or no size")
        rate = stream.average_rate or stream.guessed_rate or 0
        yield container, stream, Footage(context.width, context.height, float(rate), _stated(container, stream, rate))


def _stated(container: Any, stream: Any, rate: Fraction | int) -> float:
    """Return the seconds that the file states: the stream's, else the container's, which counts sound too."""
    if container.format.name == "avi" and stream.frames and rate:
        return float(stream.frames / rate)  # of a file that is cut short, its length is made up
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / 1e6


def upright_frames(path: Path, fps: float, short_side: int, threads: int, found: Footage) -> Iterator[Frame]:
    """Yield the frames that are shown at the middle of each 1/fps s, from the first frame to the end of the last.

    Memory does not grow with the video's length: one decoded frame is held.

    Args:
        path: the file.
        fps: frames per second that are yielded.
        short_side: pixels of the shorter side after bilinear resizing; the other keeps the shape, rounded.
        threads: of the decoder.
        found: filled while frames are decoded; `opened` gives what the file states.

    Raises:
        VideoFault: the file cannot be decoded, or much of it is missing.
    """
    with opened(path) as (container, stream, stated):
        found.__dict__.update(stated.__dict__)
        stream.codec_context.thread_count = threads
        picture, number = _Picture(short_side), 0
        shown: Any = None
        for time, frame in _timed(_decoded(container, stream, found), container.format.name != "avi", found):
            if found.stated and time > 2 * found.stated + SPARE_SECONDS:
                raise VideoFault(f"damaged: a frame's time is {time:,.0f} s, the file states {found.stated:.1f} s")
            while shown is not None and (number + 0.5) / fps < time:
                yield picture.of(shown, found)
                number += 1
            shown = frame
        while shown is not None and (number + 0.5) / fps < found.seconds:
            yield picture.of(shown, found)
            number += 1
    if not found.frames:
        raise VideoFault("damaged: no frame can be decoded")
    if found.seconds < LEAST_DECODED * found.stated:
        raise VideoFault(f"damaged or cut short: {found.seconds:.1f} of {found.stated:.1f} s can be decoded")


def _decoded(container: Any, stream: Any, found: Footage) -> Iterator[Any]:
    """Yield the frames that can be decoded, in the decoder's order, which is that of presentation."""
    av = need("av")
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.error.EOFError:
            return
        except (av.error.FFmpegError, OSError, ValueError):
            found.damaged += 1
            if found.damaged > 100 + found.frames:  # a demuxer that fails for ever
                return
            continue
        yield from frames


def _timed(frames: Iterator[Any], states_times: bool, found: Footage) -> Iterator[tuple[float, Any]]:
    """Yield each frame with its time in seconds from the first one, which never goes back.

    AVI states a rate and no times, of which decoders make up some out of order: its frames follow each other evenly. So
    do frames without a time elsewhere.
    """
    usual = 1 / found.rate if found.rate else 0.04
    origin: float | None = None
    time = -usual
    for frame in frames:
        found.frames += 1
        before, time = time, time + usual
        if states_times and frame.time is not None:
            origin = frame.time if origin is None else origin
            time = max(before, frame.time - origin)
        found.uneven += found.frames > 1 and not EVEN[0] * usual < time - before < EVEN[1] * usual
        length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
        found.seconds = max(found.seconds, time + (length if length <= 10 * usual else usual))
        yield time, frame


class _Picture:
    """Conversion of decoded frames to upright RGB arrays; one that is shown again is not converted again.

    All frames get the size and the rotation of the first one, also where a file changes them in its middle.
    """

    def __init__(self, short_side: int) -> None:
        self.short_side = short_side
        self._size: tuple[int, int] | None = None
        self._frame: Any = None
        self._array: Frame | None = None

    def of(self, frame: Any, found: Footage) -> Frame:
        """Return a frame as an array."""
        if self._size is None:
            scale = self.short_side / min(frame.width, frame.height)
            self._size = round(frame.width * scale), round(frame.height * scale)
            found.rotation = round(frame.rotation / 90) % 4 * 90
        if self._array is None or frame is not self._frame:
            small = frame.reformat(*self._size, "rgb24", interpolation="BILINEAR").to_ndarray()
            upright = np.rot90(small, found.rotation // 90) if found.rotation else small
            self._frame, self._array = frame, np.ascontiguousarray(upright)
        return self._array
