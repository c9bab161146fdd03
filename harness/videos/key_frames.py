"""Small pictures of a video at even times, in one JPEG file that says which times these are."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.io.reading import read_limited
from harness.videos.decoding import Frame
from wstal.errors import UserError

HEIGHT = 72  # pixels
MOST = 64  # pictures of a video
FIRST_STEP = 0.25  # seconds
LARGEST = 2**25  # bytes

Images = npt.NDArray[np.uint8]


class KeyFrames:
    """Pictures of a video whose length is not known before its end: every other one is dropped where they get many."""

    def __init__(self) -> None:
        self.step = FIRST_STEP
        self.pictures: list[Frame] = []

    def watch(self, frames: Iterable[Frame], fps: float) -> Iterator[Frame]:
        """Yield the frames, and keep a small copy of those nearest to the middle of each step.

        Args:
            frames: of the video.
            fps: frames per second.
        """
        frame = None
        for number, frame in enumerate(frames):
            if (number + 1) / fps > (len(self.pictures) + 0.5) * self.step:
                self.pictures.append(_small(frame))
                if len(self.pictures) == 2 * MOST:
                    self.pictures, self.step = self.pictures[1::2], 2 * self.step
            yield frame
        if frame is not None and not self.pictures:
            self.pictures.append(_small(frame))

    def encoded(self) -> bytes:
        """Return the pictures side by side as JPEG, with the seconds of a step in its comment."""
        from PIL import Image

        buffer, step, pictures = io.BytesIO(), self.step, self.pictures
        if len(pictures) > MOST:
            pictures, step = pictures[1::2], 2 * step
        comment = json.dumps({"step": step, "width": pictures[0].shape[1]})
        Image.fromarray(np.concatenate(pictures, axis=1)).save(buffer, "JPEG", quality=80, comment=comment)
        return buffer.getvalue()


def _small(frame: Frame) -> Frame:
    from PIL import Image

    height, width = frame.shape[:2]
    size = max(1, min(2 * HEIGHT, round(width * HEIGHT / height))), HEIGHT
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def key_frames_file(data: Path, video: str) -> Path:
    """Return the file of a video's key frames.

    Args:
        data: folder of extracted features.
        video: name of the video.
    """
    return data / "frames" / f"{video}.jpg"


def read_key_frames(path: Path) -> tuple[Images, float]:
    """Read the key frames of a video: `[n, height, width, 3]`, and the seconds that each stands for, from 0 on.

    Raises:
        MissingDataError: there is no such file.
        UserError: it is damaged, or not what `data extract` writes.
    """
    from PIL import Image

    content = read_limited(path, LARGEST)
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            stated = json.loads(image.info["comment"])
            step, width = float(stated["step"]), int(stated["width"])
            whole = np.asarray(image.convert("RGB"))
        count = whole.shape[1] // width
        pictures = whole[:, : count * width].reshape(whole.shape[0], count, width, 3).swapaxes(0, 1)
        if not 0 < step < 1e9 or not count:
            raise ValueError("no step")
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError) as error:
        raise UserError(
            f"{path} holds no key frames as `data extract` writes them ({error}). Extract again."
        ) from error
    return pictures, step
