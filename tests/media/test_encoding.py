"""Videos that are written: their size, rate and content, with and without ffmpeg."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from seg_det.errors import UserError
from seg_det.media import encoding
from seg_det.media.encoding import VideoWriter, fitted
from seg_det.media.videos import VideoFile


@pytest.fixture(params=["ffmpeg", "opencv"])
def encoder(request, monkeypatch):
    encoding.h264.cache_clear()
    if request.param == "opencv":
        monkeypatch.setattr(encoding, "h264", lambda: ())
    elif not encoding.h264():
        pytest.skip("there is no ffmpeg with an H.264 encoder on this machine")
    return request.param


def test_a_video_is_written_and_read_back(tmp_path, encoder):
    writer = VideoWriter(tmp_path / "new" / "clip.mp4", 30000 / 1001)
    for number in range(10):
        writer.write(np.full((49, 63, 3), (20 * number, 100, 200), np.uint8))
    writer.close()
    assert (writer.codec == "H.264") == (encoder == "ffmpeg") and writer.refitted == 0
    given = VideoFile(writer.path, "clip.mp4", "clip")
    found = [frame.pixels for frame in given.frames()]
    assert given.rate == pytest.approx(30000 / 1001, abs=1e-3) and len(found) == 10
    assert found[0].shape == (50, 64, 3)  # even sides
    np.testing.assert_allclose(found[5].mean((0, 1)), (100, 100, 200), atol=6)


def test_frames_of_another_size_are_fitted(tmp_path, encoder):
    writer = VideoWriter(tmp_path / "clip.mp4", 10)
    for size in ((48, 64), (96, 64), (48, 64)):
        writer.write(np.full((*size, 3), 255, np.uint8))
    writer.close()
    assert writer.refitted == 1
    found = [frame.pixels for frame in VideoFile(writer.path, "clip.mp4", "clip").frames()]
    assert len(found) == 3 and all(frame.shape == (48, 64, 3) for frame in found)
    assert found[1][:, :30].mean() > 240 and found[1][:, 36:].mean() < 15


def test_fitting():
    image = np.full((10, 20, 3), 7, np.uint8)
    assert fitted(image, (10, 20)) is image
    assert (fitted(image[:9, :19], (10, 20)) == 7).all()  # a missing row repeats the last
    tall = fitted(np.full((20, 10, 3), 7, np.uint8), (10, 20))
    assert tall.shape == (10, 20, 3) and (tall[:, :5] == 7).all() and (tall[:, 5:] == 0).all()


def test_a_video_that_cannot_be_written(tmp_path, encoder):
    (tmp_path / "folder.mp4").mkdir()
    writer = VideoWriter(tmp_path / "folder.mp4", 25)
    with pytest.raises(UserError, match="folder.mp4 cannot be written"):
        for _ in range(200):
            writer.write(np.zeros((480, 640, 3), np.uint8))
        writer.close()


def test_a_file_name_that_looks_like_an_option(tmp_path, encoder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(Path("-y:x.mp4"), 25)
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    assert cv2.VideoCapture(str(tmp_path / "-y:x.mp4")).isOpened()


def test_one_frame_an_hour(tmp_path, encoder):
    writer = VideoWriter(tmp_path / "lapse.mp4", 1 / 3600)
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    assert sum(1 for _ in VideoFile(writer.path, "lapse.mp4", "lapse").frames()) == 3
