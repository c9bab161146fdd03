"""Dense optical flow between neighbouring frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from harness.videos.decoding import Frame
from harness.videos.extra import need

Flow = npt.NDArray[np.float32]  # [H, W, 2], horizontal then vertical


def flows(frames: Iterable[Frame], bound: float, threads: int) -> Iterator[Flow]:
    """Yield the TV-L1 flow from each frame to the next, in [-1, 1]; the last frame has the flow before it again.

    So a video has as many flows as frames, and both streams have as many rows. A video of one frame does not move.

    Args:
        frames: upright RGB frames.
        bound: pixels that become 1; longer motion is clipped.
        threads: of OpenCV, for the whole process.
    """
    cv2 = need("cv2")
    cv2.setNumThreads(threads)
    solver = cv2.optflow.DualTVL1OpticalFlow_create()
    before: npt.NDArray[np.uint8] | None = None
    last: Flow | None = None
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if before is not None:
            found: Flow = solver.calc(before, grey, None)
            last = np.clip(found, -bound, bound) / np.float32(bound)
            yield last
        before = grey
    if before is not None:
        yield np.zeros((*before.shape, 2), np.float32) if last is None else last
