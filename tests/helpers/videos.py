"""Small video files and reduced networks for tests of extraction."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.cli.main import main
from wstal.backbones.i3d import InceptionI3d

SHRINK, WIDTH = 8, 128


def need_video() -> None:
    """Skip a test where the extra `video` is absent."""
    for module in ("av", "cv2"):
        pytest.importorskip(module, reason=f"the extra `video` is not installed: there is no {module}")


def moving(frames: int, colour: int = 0, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """A bright square that crosses a textured ground, faster for higher colours."""
    rng = np.random.default_rng(colour)
    ground = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    images = []
    for number in range(frames):
        image = ground.copy()
        left = int(number * (1 + colour)) % (width - 16)
        image[8:24, left : left + 16, colour % 3] = 255
        images.append(image)
    return images


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    rate: int = 25,
    *,
    rotation: int = 0,
    times: Sequence[int] | None = None,
    sound: bool = False,
    codec: str = "mpeg4",
) -> Path:
    """Write frames as a video file; `times` in thousandths of a second make the rate variable."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        if images:
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = 2_000_000
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                stream.set_display_rotation(rotation)
        if sound:
            audio = container.add_stream("aac", rate=16_000)
            audio.layout = "mono"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        if images:
            container.mux(stream.encode())
        if sound:
            for number in range(40):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 16_000, 1024 * number
                container.mux(audio.encode(silence))
            container.mux(audio.encode())
    return path


def write_weights(path: Path, channels: int = 3, seed: int = 0) -> Path:
    """Write the state dict of a reduced network with random weights."""
    torch.manual_seed(seed)
    torch.save(InceptionI3d(channels, num_classes=5, shrink=SHRINK).state_dict(), path)
    return path


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def command(*words: object) -> Ended:
    """Do a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Ended(code, out.getvalue(), err.getvalue())


def extract(videos: Path, out: Path, *weights: Path, options: Sequence[object] = ()) -> Ended:
    """Extract with reduced networks from small frames."""
    small = ("--short-side", 32, "--crop", 32, "--jobs", 1, "--device", "cpu", *options)
    return command("data", "extract", videos, "--out", out, *(["--weights", *weights] if weights else []), *small)
