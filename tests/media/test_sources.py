"""What source= may name, and what is read of it."""

import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_det.errors import UserError
from seg_det.media import addresses, videos
from seg_det.media.frames import Frame, in_advance
from seg_det.media.names import Stems, shown
from seg_det.media.sources import open_source
from seg_det.media.videos import Timing

GREY = np.full((20, 30, 3), 90, np.uint8)


def test_the_pixels_of_a_frame_that_was_not_read():
    assert Frame("a.jpg", "a", pixels=GREY).image is GREY
    for frame, reason in (
        (Frame("a.jpg", "a", error=UserError("it is broken")), "broken"),
        (Frame("b.jpg", "b"), "b.jpg was not"),
    ):
        with pytest.raises(UserError, match=reason):
            _ = frame.image


def save(path: Path, size=(30, 20), colour=(200, 100, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def video(path: Path, frames=12, rate=25.0, size=(64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 20 * number % 256, np.uint8))
    writer.release()
    return path


def frames(source, **settings):
    inputs, _ = open_source(source, **settings)
    return [frame for given in inputs for frame in given.frames()]


def names(source):
    return [frame.file for frame in frames(source)]


def test_one_image(tmp_path):
    (frame,) = frames(save(tmp_path / "a.png"))
    assert (frame.file, frame.stem, frame.number) == ("a.png", "a", None)
    assert frame.pixels.shape == (20, 30, 3) and frame.pixels[0, 0].tolist() == [200, 100, 50]


def test_a_folder_in_natural_order_with_its_subfolders(tmp_path):
    for name in ("10.jpg", "2.jpg", "b/1.png", ".hidden/3.jpg", "._2.jpg"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "LICENSE").write_text("x")
    inputs, others = open_source(str(tmp_path))
    assert names(tmp_path) == ["2.jpg", "10.jpg", "b/1.png"]
    assert len(inputs) == 1 and inputs[0].length == 3
    assert dict(others) == {".txt": 1, "no suffix": 1}


def test_a_pattern_a_list_and_several_sources(tmp_path, monkeypatch):
    for name in ("a/1.jpg", "a/2.png", "b/1.jpg"):
        save(tmp_path / name)
    assert names(f"{tmp_path}/**/1.jpg") == ["a/1.jpg", "b/1.jpg"]
    (tmp_path / "list.txt").write_text("\ufeffa/2.png\n# a comment\n\nb/1.jpg\n")
    assert names(tmp_path / "list.txt") == ["a/2.png", "b/1.jpg"]
    assert names([str(tmp_path / "a/1.jpg"), str(tmp_path / "b/1.jpg")]) == ["a/1.jpg", "b/1.jpg"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "from_here.txt").write_text("b/1.jpg\n")  # a list made by a tool that ran elsewhere
    assert names("a/from_here.txt") == ["1.jpg"]


def test_names_of_what_is_written_are_unique(tmp_path):
    for name in ("a.jpg", "a.png", "A.bmp"):
        save(tmp_path / name)
    assert sorted(frame.stem for frame in frames(tmp_path)) == ["A", "a_2", "a_3"]
    stems = Stems()
    assert [stems.of("../x/a.jpg"), stems.of("/x/a.png"), stems.of("x/a.gif")] == ["x/a", "x/a_2", "x/a_3"]
    assert [stems.of("x.jpg/1.png"), stems.of("a\nb.jpg"), stems.of(f"{'u' * 400}.png")] == [
        "x.jpg_/1",
        "a_b",
        "u" * 180,
    ]


def test_frames_of_a_video_share_no_name_with_an_image():
    stems = Stems()
    assert [stems.of("clip/000001.png"), stems.of("clip.mp4", video=True)] == ["clip/000001", "clip_2"]
    assert [stems.of("v.mp4", video=True), stems.of("v/000001.png"), stems.of("v/a.png")] == ["v", "v/000001_2", "v/a"]


def test_a_file_name_with_the_signs_of_a_pattern(tmp_path):
    assert names(save(tmp_path / "a[1].jpg")) == ["a[1].jpg"]


def test_broken_images_are_frames_with_a_reason(tmp_path):
    save(tmp_path / "1.jpg")
    (tmp_path / "2.jpg").write_bytes(b"")
    (tmp_path / "3.jpg").write_bytes(b"not an image")
    (tmp_path / "4.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    save(tmp_path / "5.jpg")
    found = frames(tmp_path)
    assert [frame.error is None for frame in found] == [True, False, False, False, True]
    assert "2.jpg is empty" in str(found[1].error)
    assert "3.jpg is broken" in str(found[2].error)
    assert "4.heic is HEIC inside, which is not read" in str(found[3].error)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: folder / "none.jpg", "there is no .*none.jpg: source is an image, a folder"),
        (lambda folder: f"{folder}/*.jpg", "no file matches source="),
        (lambda folder: folder, r"holds no image and no video \(1 .csv\)"),
        (lambda folder: folder / "empty.txt", "names no file"),
        (lambda folder: "ftp://host/a.jpg", "addresses of ftp:// are not read"),
        (lambda folder: "a\0b", "there is no a.b"),
        (lambda folder: [], "source is empty"),
    ],
)
def test_nothing_to_read(tmp_path, make, sentence):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("x")
    (tmp_path / "data" / "empty.txt").write_text("# nothing\n")
    folder = tmp_path / "data"
    if "names no file" not in sentence:
        (folder / "empty.txt").unlink()
    with pytest.raises(UserError, match=sentence):
        open_source(make(folder))


def test_a_list_that_names_a_missing_file(tmp_path):
    save(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\ngone.jpg\n")
    found = frames(tmp_path / "list.txt")
    assert found[0].error is None and "there is no image" in str(found[1].error)


def test_a_video(tmp_path):
    (given,), _ = open_source(video(tmp_path / "clip.mp4", rate=12.5))
    found = list(given.frames())
    assert given.video and not given.live and given.length == 12 and given.rate == 12.5
    assert [frame.number for frame in found] == list(range(1, 13))
    assert all(frame.pixels.shape == (48, 64, 3) and frame.error is None for frame in found)
    assert abs(int(found[5].pixels.mean()) - 100) <= 5  # the sixth frame is 5 * 20 bright


def test_a_video_that_breaks_off(tmp_path):
    whole = video(tmp_path / "clip.avi", frames=100)
    data = whole.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    *good, last = frames(tmp_path / "cut.avi")
    assert 10 < len(good) < 90 and all(frame.error is None for frame in good)
    assert "cut.avi breaks off after frame" in str(last.error)


def test_frames_that_cannot_be_decoded_cost_no_other(tmp_path, monkeypatch):
    class Capture:
        def __init__(self, answers):
            self.answers = list(answers)

        def isOpened(self):
            return True

        def read(self):
            good = self.answers.pop(0) if self.answers else False
            return good, np.zeros((4, 4, 3), np.uint8) if good else None

        def get(self, what):
            return {cv2.CAP_PROP_FRAME_COUNT: 9, cv2.CAP_PROP_FPS: 10.0}[what]

        def release(self):
            pass

    monkeypatch.setattr(videos, "open_capture", lambda *_: Capture([True, True, False, False, *[True] * 5]))
    found = list(videos.VideoFile(tmp_path / "x.mp4", "x.mp4", "x").frames())
    assert [frame.number for frame in found] == [1, 2, 3, 5, 6, 7, 8, 9]
    assert [frame.error is None for frame in found] == [True, True, False, *[True] * 5]
    assert "2 frames of the video x.mp4 after frame 2 cannot be decoded" in str(found[2].error)


def test_a_short_video_that_breaks_off(tmp_path):
    data = video(tmp_path / "clip.avi", frames=20, rate=30.0, size=(160, 120)).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: int(0.6 * len(data))])
    *good, last = frames(tmp_path / "cut.avi")
    assert good and "breaks off after frame" in str(last.error)


def test_a_name_that_is_no_text(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")).write_bytes(b"x")
    (frame,) = frames(tmp_path)
    assert "is not UTF-8: rename it" in str(frame.error) and frame.file.encode() and frame.stem.encode()


def test_links_in_a_folder(tmp_path):
    save(tmp_path / "a" / "1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    save(tmp_path / "elsewhere" / "2.jpg")
    (tmp_path / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    found = frames(tmp_path / "a")
    assert [frame.file for frame in found] == ["1.jpg", "gone.jpg", "linked/2.jpg"]
    assert [frame.error is None for frame in found] == [True, False, True]
    assert names(f"{tmp_path}/a/**/*.jpg") == ["1.jpg", "linked/2.jpg"]


def test_a_list_with_lines_that_no_file_can_have(tmp_path):
    save(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text(f"a.jpg\n{'x' * 5000}\nb\0c.jpg\n")
    assert [frame.error is None for frame in frames(tmp_path / "list.txt")] == [True, False, False]


def test_an_address_in_a_list(tmp_path, file_server):
    content = save(tmp_path / "a.png").read_bytes()
    (tmp_path / "list.txt").write_text(f"a.png\n{file_server.put('b.png', content)}\n")
    assert names(tmp_path / "list.txt") == ["a.png", "b.png"]


def test_what_an_address_gives_is_told_by_the_server(monkeypatch):
    kinds = {"x": "image/jpeg", "stream": "multipart/x-mixed-replace; boundary=a", "film": "video/mp4", "none": ""}
    monkeypatch.setattr(addresses, "_content_type", lambda address, timing: kinds[address.rsplit("/")[-1]])
    found = [open_source(f"http://127.0.0.1:9/{name}")[0][0] for name in kinds]
    assert [type(one).__name__ for one in found] == ["Address", "Stream", "VideoFile", "Address"]


def test_an_image_that_never_ends(monkeypatch):
    class Dripping:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def raise_for_status(self):
            pass

        def iter_content(self, size):
            while True:
                yield b"x"

    monkeypatch.setattr(addresses.requests, "get", lambda *_, **__: Dripping())
    (frame,) = frames("http://127.0.0.1:9/a.jpg", timing=Timing(timeout_s=0.01))
    assert "sends no end, so it is no image" in str(frame.error)


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"", "is empty"), (b"nothing of the kind", "is broken, or of a kind")]
)
def test_what_is_no_video(tmp_path, content, sentence):
    (tmp_path / "clip.mp4").write_bytes(content)
    (frame,) = frames(tmp_path / "clip.mp4")
    assert sentence in str(frame.error)


def test_a_camera_that_is_not_there():
    (frame,) = frames(97)
    assert frame.name == "camera 97" and "camera 97 cannot be opened: is it connected" in str(frame.error)


def test_an_rtsp_address_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"rtsp://someone:secret@127.0.0.1:{server.getsockname()[1]}/live"
        (frame,) = frames(address, timing=Timing(timeout_s=0.3, retries=1))
    assert "cannot be opened: check the address and that it can be reached (2 tries of 0.3 s" in str(frame.error)
    assert "secret" not in str(frame.error) + frame.name


def test_passwords_are_not_shown():
    assert shown("rtsp://a:b@host/x") == shown("rtsp://a:s@cret@host/x") == "rtsp://***@host/x"
    assert shown("http://user:pa/ss@host/x") == "http://***@host/x"
    assert shown("http://host:80/x.mp4?user=a&password=b") == "http://host:80/x.mp4?***"
    assert shown("photos/a@b.jpg") == "photos/a@b.jpg"


@pytest.mark.parametrize(
    ("key", "value"), [("timeout_s", 0), ("timeout_s", "x"), ("retries", -1), ("timeout_s", True), ("retries", 1e9)]
)
def test_timing_is_checked(key, value):
    with pytest.raises(UserError, match=rf"stream.{key} must be a number from"):
        Timing(**{key: value})


def test_an_image_at_an_address(tmp_path, file_server):
    content = save(tmp_path / "a.png").read_bytes()
    (frame,) = frames(file_server.put("x/a%20b.png", content))
    assert frame.file == "a_b.png" and frame.pixels.shape == (20, 30, 3)
    (frame,) = frames(file_server.url("missing.png"))
    assert "cannot be fetched (404" in str(frame.error)
    (frame,) = frames(file_server.put("page.jpg", b"<html>"))
    assert "page.jpg is broken (no known image format)" in str(frame.error)


def test_a_video_at_an_address(tmp_path, file_server):
    content = video(tmp_path / "clip.mp4").read_bytes()
    found = frames(file_server.put("clip.mp4", content))
    assert [frame.number for frame in found] == list(range(1, 13)) and found[0].file == file_server.url("clip.mp4")


def test_reading_in_advance_is_bounded_and_in_order():
    asked = []

    def numbers():
        for number in range(100):
            asked.append(number)
            yield number

    made = in_advance(lambda number: number * 2, numbers(), workers=2, ahead=4)
    assert [next(made) for _ in range(3)] == [0, 2, 4]
    assert len(asked) <= 3 + 4
    assert list(made) == [2 * number for number in range(3, 100)]
