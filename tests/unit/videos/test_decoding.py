import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from harness.videos.decoding import Footage, VideoFault, upright_frames
from tests.helpers.videos import moving, need_video, write_video

need_video()


def decode(path: Path, fps: float = 25, short_side: int = 48) -> tuple[list[np.ndarray], Footage]:
    found = Footage(0, 0, 0, 0)
    return list(upright_frames(path, fps, short_side, 1, found)), found


def grey_steps(count: int, rate: int, path: Path, **options) -> Path:
    """A video whose frame n has the brightness 4 n, so that a frame tells its number."""
    return write_video(path, [np.full((48, 64, 3), 4 * n, np.uint8) for n in range(count)], rate, **options)


def numbers(frames: list[np.ndarray]) -> list[int]:
    return [round(float(frame.mean()) / 4) for frame in frames]


def test_at_the_videos_own_rate_each_frame_is_there_once(tmp_path):
    frames, found = decode(grey_steps(50, 25, tmp_path / "a.mp4"))
    assert numbers(frames) == list(range(50))
    assert (found.frames, round(found.seconds, 6), found.remarks()) == (50, 2.0, [])


@pytest.mark.parametrize("rate", [10, 30, 50])
def test_another_rate_shows_the_frame_at_the_middle_of_each_step(tmp_path, rate):
    frames, _ = decode(grey_steps(60, rate, tmp_path / "a.mkv"))
    expected = [min(59, int((k + 0.5) / 25 * rate + 1e-9)) for k in range(round(60 / rate * 25))]
    # Matroska rounds times to thousandths, so a frame that begins at the very middle may be the one or the other
    assert len(frames) == len(expected)
    assert all(got in (want, want - (rate == 50)) for got, want in zip(numbers(frames), expected, strict=True))


def test_a_variable_rate_is_followed_and_told(tmp_path):
    times = [40 * n for n in range(25)] + [1000 + 80 * n for n in range(25)]
    frames, found = decode(grey_steps(50, 25, tmp_path / "a.mp4", times=times))
    assert numbers(frames)[:30] == [*range(25), 25, 25, 26, 26, 27]
    assert found.seconds == pytest.approx(3.0, abs=0.05)
    assert "frame rate varies" in found.remarks()[0]


def test_avi_has_a_rate_and_no_times(tmp_path):
    frames, found = decode(grey_steps(50, 25, tmp_path / "a.avi"))
    assert numbers(frames) == list(range(50))
    assert found.remarks() == []


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_rotated_video_stands_upright(tmp_path, degrees):
    flat, _ = decode(write_video(tmp_path / "a.mp4", moving(5)))
    turned, found = decode(write_video(tmp_path / "b.mp4", moving(5), rotation=degrees))
    assert np.array_equal(turned[3], np.rot90(flat[3], degrees // 90 % 4))  # counter-clockwise, as ffmpeg defines it
    assert found.remarks() == [f"turned upright by {degrees % 360} degrees"]


def test_the_shorter_side_is_resized_and_the_shape_kept(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving(3, height=48, width=64))
    assert decode(path, short_side=170)[0][0].shape == (170, 227, 3)
    tall = write_video(tmp_path / "b.mp4", moving(3, height=64, width=48))
    assert decode(tall, short_side=32)[0][0].shape == (43, 32, 3)


def test_sound_alone_is_no_video_and_silence_is_none_of_the_summarys_business(tmp_path):
    with pytest.raises(VideoFault, match="only sound"):
        decode(write_video(tmp_path / "a.mp4", [], sound=True))
    with_sound, found = decode(write_video(tmp_path / "b.mp4", moving(60), sound=True))
    silent, _ = decode(write_video(tmp_path / "c.mp4", moving(60)))
    assert np.array_equal(with_sound, silent)
    assert found.remarks() == []


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_half_a_file_is_damaged(tmp_path, ending):
    content = write_video(tmp_path / f"a.{ending}", moving(200)).read_bytes()
    path = tmp_path / f"half.{ending}"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoFault, match=r"cut short: [\d.]+ of 8.0 s|no readable video file"):
        decode(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 5000], ids=["empty", "text", "zeros"])
def test_what_is_no_video_is_told(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoFault, match="no readable video file"):
        decode(tmp_path / "a.mp4")


def test_noise_in_the_middle_is_left_out_and_told(tmp_path):
    content = bytearray(write_video(tmp_path / "a.mkv", moving(200)).read_bytes())
    rng = np.random.default_rng(1)
    for place in range(len(content) // 3, 2 * len(content) // 3, 50):
        content[place] = rng.integers(256)
    (tmp_path / "b.mkv").write_bytes(bytes(content))
    frames, found = decode(tmp_path / "b.mkv")
    assert len(frames) == 200
    assert any("damaged packets were left out" in remark for remark in found.remarks())


def test_many_frames_take_no_more_memory(tmp_path):
    """The generator holds one frame: nothing decoded before is alive."""
    alive: list[weakref.ref[np.ndarray]] = []
    for frame in upright_frames(write_video(tmp_path / "a.mp4", moving(80)), 25, 48, 1, Footage(0, 0, 0, 0)):
        alive.append(weakref.ref(frame))
        del frame
        gc.collect()
        assert sum(one() is not None for one in alive) <= 2
