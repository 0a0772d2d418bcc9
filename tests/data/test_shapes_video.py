"""Generated videos: the same for the same seed, exact boxes, objects that enter, cross and leave; and the files of the script."""

import doctest
from itertools import pairwise

import cv2
import numpy as np
import pytest
from commands import loaded_script

from seg_det.data import shapes_video as module
from seg_det.data.shapes_scene import CLASSES, HEIGHT, WIDTH
from seg_det.data.shapes_video import MIN_VISIBLE, shapes_truth, shapes_video
from seg_det.errors import UserError
from seg_det.metrics.tracking import read_mot, score_tracks


@pytest.fixture(scope="module")
def script():
    return loaded_script("prepare_shapes_video")


@pytest.fixture(scope="module")
def video():
    return list(shapes_video(3, frames=12))


@pytest.fixture(scope="module")
def truths():
    """Two minutes at four frames a second, as it were: the truth of three videos."""
    return [list(shapes_truth(seed, frames=400)) for seed in range(3)]


def iou(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = (high - low).clip(0).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def test_frames_have_the_declared_form(video):
    for frame in video:
        count = len(frame.ids)
        assert frame.image.shape == (HEIGHT, WIDTH, 3) and frame.image.dtype == np.uint8
        assert frame.boxes.shape == (count, 4) and frame.boxes.dtype == np.float32
        assert (frame.labels.dtype, frame.ids.dtype, frame.visibility.dtype) == (np.int64, np.int64, np.float32)
        assert len(frame.labels) == len(frame.visibility) == count


def test_same_seed_same_video_and_a_longer_one_begins_alike(video):
    for ours, again in zip(video, shapes_video(3, frames=15), strict=False):
        assert all(np.array_equal(a, b) for a, b in zip(ours, again, strict=True))
    other = next(shapes_video(4, frames=1))
    assert not np.array_equal(other.image, video[0].image) and not np.array_equal(other.boxes, video[0].boxes)


def test_the_truth_needs_no_pictures(video):
    for frame, truth in zip(video, shapes_truth(3, frames=12), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(frame[1:], truth, strict=True))


def test_boxes_are_where_the_picture_changes():
    """Without grain, all that differs from the empty scene lies within the boxes, and reaches each of their sides."""
    empty = next(shapes_video(5, objects=0))
    frame = next(shapes_video(5, objects=3))
    changed = np.abs(frame.image.astype(int) - empty.image.astype(int)).max(axis=2) > 12
    assert len(frame.ids) == 3 and changed.sum() > 1000
    covered = np.zeros((HEIGHT, WIDTH), bool)
    for left, top, right, bottom in frame.boxes.astype(int):
        covered[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = True
        part = changed[top:bottom, left:right]
        rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
        assert rows[0] <= 4 and columns[0] <= 4
        assert rows[-1] >= bottom - top - 5 and columns[-1] >= right - left - 5
    assert not (changed & ~covered).any()


def test_boxes_hold_exactly_the_visible_pixels():
    for shown, truth in zip(module._moving(6, 8, 7), shapes_truth(6, frames=8, objects=7), strict=True):
        owner = np.zeros((HEIGHT, WIDTH), int)
        for mover, sprite in shown:
            owner[sprite.window][sprite.alpha >= 0.5] = mover.id
        for number, box, share in zip(truth.ids, truth.boxes, truth.visibility, strict=True):
            left, top, width, height = cv2.boundingRect(np.uint8(owner == number))
            assert box.tolist() == [left, top, left + width, top + height]
            (full,) = (sprite.full_area for mover, sprite in shown if mover.id == number)
            assert share == pytest.approx((owner == number).sum() / full)


def test_truth_is_sound(truths):
    for frames in truths:
        labels = {}
        for truth in frames:
            low, high = truth.boxes[:, :2], truth.boxes[:, 2:]
            assert (low >= 0).all() and (high <= (WIDTH, HEIGHT)).all() and (high > low).all()
            assert (truth.visibility >= MIN_VISIBLE).all() and (truth.visibility <= 1).all()
            assert len(set(truth.ids.tolist())) == len(truth.ids) <= 6
            assert (truth.ids >= 1).all() and (truth.labels < len(CLASSES)).all()
            for number, label in zip(truth.ids.tolist(), truth.labels.tolist(), strict=True):
                assert labels.setdefault(number, label) == label


def test_objects_move_cross_enter_and_leave(truths):
    for frames in truths:
        first, last = {}, {}
        crossings, gaps = 0, 0
        for t, truth in enumerate(frames):
            for k, number in enumerate(truth.ids.tolist()):
                gaps += number in last and last[number][0] < t - 1
                first.setdefault(number, (t, truth.boxes[k]))
                last[number] = (t, truth.boxes[k])
            pairs = [iou(a, b) for i, a in enumerate(truth.boxes) for b in truth.boxes[:i]]
            crossings += any(overlap > 0.1 for overlap in pairs)
        entered = [number for number, (t, _) in first.items() if t > 20]
        left = [number for number, (t, _) in last.items() if t < 380]
        assert len(entered) >= 8 and len(left) >= 8, "others enter and leave"
        assert crossings >= 40 and gaps >= 1, "they overlap, and some vanish for a while"
        for number in set(entered) & set(left):
            for box in (first[number][1], last[number][1]):
                assert min(*box[:2], WIDTH - box[2], HEIGHT - box[3]) < 60, (
                    "where they appear and go is near the border"
                )


def test_steps_are_short(truths):
    """An object that is whole in two frames moves by its speed, at most 7 pixels a frame; rotation moves the sides a little."""
    for frames in truths:
        for before, now in pairwise(frames):
            whole = {n: b for n, b, v in zip(before.ids, before.boxes, before.visibility, strict=True) if v > 0.999}
            for number, box, visible in zip(now.ids, now.boxes, now.visibility, strict=True):
                if number in whole and visible > 0.999:
                    centres = (box[:2] + box[2:] - whole[number][:2] - whole[number][2:]) / 2
                    assert np.abs(centres).max() < 7 + 5


def test_a_video_of_nothing():
    frames = list(shapes_video(0, frames=2, objects=0))
    assert [frame.boxes.shape for frame in frames] == [(0, 4), (0, 4)]
    grain = frames[1].image.astype(int) - frames[0].image
    assert 0.7 * module.GRAIN < grain.std() / np.sqrt(2) < 1.3 * module.GRAIN, "each frame has its own"


@pytest.mark.parametrize("settings", [{"seed": -1}, {"frames": 0}, {"objects": -1}])
@pytest.mark.parametrize("generator", [shapes_video, shapes_truth])
def test_settings_that_cannot_be(generator, settings):
    with pytest.raises(UserError, match="a video needs seed >= 0, frames >= 1 and objects >= 0, got"):
        generator(**settings)


def test_the_example_of_the_documentation():
    found = doctest.testmod(module)
    assert found.attempted == 2 and not found.failed


def test_the_script_writes_a_video_and_its_truth(script, tmp_path, capsys):
    root = tmp_path / "videos"
    words = ["--root", str(root), "--videos", "2", "--frames", "9", "--seed", "3", "--frame-rate", "25"]
    assert script.main(words) == 0
    assert capsys.readouterr().out == f"2 videos of shapes with their tracks are ready: {root}\n"
    assert sorted(path.name for path in root.iterdir()) == ["000.mp4", "000.txt", "001.mp4", "001.txt"]
    reader = cv2.VideoCapture(str(root / "001.mp4"))
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
    rows = read_mot(root / "001.txt")
    for number, frame in enumerate(shapes_video(4, frames=9), start=1):
        ok, image = reader.read()
        assert ok and np.abs(image[:, :, ::-1].astype(int) - frame.image).mean() < 12, "colours in the right order"
        of_frame = [row for row in rows if row.frame == number]
        assert [row.id for row in of_frame] == frame.ids.tolist()
        assert [row.category for row in of_frame] == (frame.labels + 1).tolist()
        assert [row.visibility for row in of_frame] == pytest.approx(frame.visibility.tolist(), abs=1e-3)
        boxes = [(row.left, row.top, row.left + row.width, row.top + row.height) for row in of_frame]
        assert np.array_equal(np.float32(boxes).reshape(-1, 4), frame.boxes)
    assert not reader.read()[0]
    assert score_tracks(rows, rows).mota == 1


def test_the_script_overwrites_nothing(script, tmp_path, capsys):
    (tmp_path / "000.txt").write_text("mine")
    assert script.main(["--root", str(tmp_path), "--frames", "2"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / '000.txt'} exists: delete it, or choose another --root.\n"
    assert (tmp_path / "000.txt").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--frames", "0"], "a video needs seed >= 0, frames >= 1"),
        (["--videos", "0"], "--videos must be at least 1, got 0"),
        (["--frame-rate", "nan"], "--frame-rate must be greater than 0"),
    ],
)
def test_the_script_says_what_cannot_be(script, tmp_path, capsys, words, text):
    assert script.main(["--root", str(tmp_path / "videos"), *words]) == 1
    assert capsys.readouterr().err.startswith(f"error: {text}") and not (tmp_path / "videos").exists()


def test_a_video_that_breaks_off_leaves_nothing(script, tmp_path):
    def broken():
        yield from shapes_video(0, frames=2)
        raise UserError("the camera fell over")

    with pytest.raises(UserError, match="fell over"):
        script.write_video(tmp_path / "a.mp4", broken(), frame_rate=30.0, total=5)
    assert not list(tmp_path.iterdir())


def test_a_codec_that_is_missing_is_named(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "CODEC", "zzzz")
    with pytest.raises(UserError, match=r"a.avi cannot be written with codec zzzz"):
        script.write_video(tmp_path / "a.avi", shapes_video(0, frames=2), frame_rate=30.0, total=2)
    assert not list(tmp_path.iterdir())
