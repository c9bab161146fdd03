import io

import numpy as np
import pytest

from harness.videos.key_frames import HEIGHT, MOST, KeyFrames, key_frames_file, read_key_frames
from wstal.errors import MissingDataError, UserError


def watch(seconds: float, fps: float = 25.0) -> KeyFrames:
    """Key frames of a video whose brightness is its second."""
    pictures = KeyFrames()
    frames = (np.full((24, 40, 3), min(255, int(n / fps)), np.uint8) for n in range(int(seconds * fps)))
    assert sum(1 for _ in pictures.watch(frames, fps)) == int(seconds * fps)
    return pictures


@pytest.mark.parametrize("seconds", [0.64, 5.0, 30.0, 200.0])
def test_pictures_are_few_and_at_their_times(tmp_path, seconds):
    path = key_frames_file(tmp_path, "a")
    path.parent.mkdir()
    path.write_bytes(watch(seconds).encoded())
    images, step = read_key_frames(path)
    assert 0 < len(images) <= MOST
    assert images.shape[1:] == (HEIGHT, 120, 3)
    assert len(images) * step == pytest.approx(seconds, abs=step)
    for number, image in enumerate(images):
        assert abs(float(image.mean()) - (number + 0.5) * step) <= step + 2  # JPEG is not exact


def test_one_frame_is_enough():
    assert len(watch(0.04).encoded()) > 100


def test_other_files_are_refused(tmp_path):
    from PIL import Image

    with pytest.raises(MissingDataError):
        read_key_frames(tmp_path / "absent.jpg")
    plain = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(plain, "JPEG")
    good = watch(5).encoded()
    for content in (b"", b"hello", plain.getvalue(), good[:300], good.replace(b'"step": 0.25', b'"step": -1.0')):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(UserError, match="no key frames as"):
            read_key_frames(tmp_path / "a.jpg")
