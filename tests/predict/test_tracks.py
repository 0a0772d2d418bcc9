"""Track ids: those of the package trackers on recorded detections, the rules one by one, bad input, bounded memory."""

import doctest
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from detections import Detector, Found, detected
from references_tracks import theirs

from seg_det.errors import UserError
from seg_det.metrics.tracking import mot_rows, score_tracks
from seg_det.predict import tracks
from seg_det.predict.tracks import Tracker, TrackerSettings

RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "tracks.json").read_text())["sequences"]
NOTHING = np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64)
NOTE = "opencv-python would come with it: pip install --no-deps trackers supervision pydeprecate defusedxml"


def frames_of(recorded):
    for boxes, scores in zip(recorded["boxes"], recorded["scores"], strict=True):
        yield Found(np.float32(boxes).reshape(-1, 4), np.float32(scores), np.zeros(len(scores), np.int64))


def from_one(ids):
    """The package counts from 0."""
    return [[number + 1 if number >= 0 else -1 for number in frame] for frame in ids]


def tracked(frames, rate=30.0, **settings):
    tracker = Tracker(frame_rate=rate, settings=TrackerSettings(**settings))
    return [tracker.update(*found).tolist() for found in frames]


def one(x, score=0.9, label=0, side=40):
    """A frame with a single detection."""
    return np.float32([[x, 10, x + side, 10 + side]]), np.float32([score]), np.array([label])


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded["name"])
def test_ids_are_those_of_the_package(recorded):
    found = tracked(frames_of(recorded), recorded["frame_rate"], **recorded["settings"])
    assert found == from_one(recorded["ids"])
    flat = np.concatenate(found)
    assert (flat < 0).sum() > 10 and flat.max() >= 5, "the recording decides too little"


@pytest.mark.parametrize("settings", [{}, {"confirm_frames": 1, "lost_frames": 3}, {"iou_threshold": 0.0}])
def test_ids_are_those_of_the_installed_package(settings):
    pytest.importorskip("trackers", reason=NOTE)
    edge = [one(10, 0.7), one(10, 0.6), NOTHING, NOTHING, one(10, 0.75), one(11), NOTHING, one(12, 0.6)]
    edge = [Found(*found) for found in edge]
    assert tracked(edge, **settings) == from_one(theirs(edge, 30.0, settings))
    for seed, rate in ((1, 30.0), (2, 10.0), (3, 50.0)):
        frames = [found for _, found in detected(seed, 80, 9, Detector(miss=0.25, false=2.0, faintest=0.3))]
        frames[40:44] = [Found(*NOTHING)] * 4
        frames[50] = Found(*(np.concatenate([part, part]) for part in frames[50]))  # equal boxes: ties
        assert tracked(frames, rate, **settings) == from_one(theirs(frames, rate, settings))


def test_settings_that_were_recorded_differ_and_matter():
    crowd = next(recorded for recorded in RECORDED if recorded["name"] == "crowd")
    for other in ({"lost_frames": 0}, {"iou_threshold": 0.5}, {"high_threshold": 0.9}, {"confirm_frames": 4}):
        assert tracked(frames_of(crowd), **other) != from_one(crowd["ids"]), other


def test_a_track_gets_its_id_when_confirmed_and_keeps_it_while_lost():
    frames = [one(10), one(12), one(14), *[NOTHING] * 5, one(26)]
    assert tracked(frames) == [[-1], [1], [1], [], [], [], [], [], [1]]
    assert tracked(frames, lost_frames=4)[-1] == [-1]
    assert tracked(frames, lost_frames=5)[-1] == [1]
    assert tracked(frames, rate=15.0, lost_frames=8)[-1] == [-1]
    assert tracked(frames, rate=15.0, lost_frames=9)[-1] == [1]  # 4.5 frames become 5
    assert tracked(frames, confirm_frames=3)[:3] == [[-1], [-1], [1]]
    # one that was seen once is forgotten at the first miss, or at the second one where a single frame is enough
    assert tracked([one(10), NOTHING, one(10)], confirm_frames=1) == [[-1], [], [1]]
    assert tracked([one(10), NOTHING, NOTHING, one(10)], confirm_frames=1) == [[-1], [], [], [-1]]
    assert tracked([one(10), NOTHING, one(10), one(10)]) == [[-1], [], [-1], [1]]


def test_low_scores_continue_a_track_and_start_none():
    assert tracked([one(10, 0.3)] * 5) == [[-1]] * 5
    assert tracked([one(10), one(10), one(10, 0.05)]) == [[-1], [1], [1]]
    assert tracked([one(10, 0.65)] * 3) == [[-1]] * 3, "high, but below the threshold that starts a track"
    assert tracked([one(10, 0.65)] * 3, start_threshold=0.6) == [[-1], [1], [1]]
    assert tracked([one(10, 0.3)] * 3, start_threshold=0.2) == [[-1]] * 3, "low ones never do"
    assert tracked([one(10, 0.7)] * 3) == [[-1]] * 3, "the float32 of 0.7 is less, as in the package"
    assert tracked([one(10, 0.6), *[one(10, 0.75)] * 2], start_threshold=0.5) == [[-1], [1], [1]]


def test_an_overlap_that_just_reaches_the_threshold_is_enough():
    half = np.float32([[10, 10, 90, 50]]), np.float32([0.9]), np.array([0])  # twice as wide
    assert tracked([one(10), half, half], iou_threshold=0.5)[1] == [1]
    assert tracked([one(10), half, half], iou_threshold=0.51)[1] == [-1]


def test_high_scores_choose_first():
    pair = np.float32([[10, 10, 50, 50], [14, 10, 54, 50]])
    scores, labels = np.float32([0.5, 0.9]), np.array([0, 0])
    assert tracked([one(10), one(10), (pair, scores, labels)])[-1] == [-1, 1]
    assert tracked([one(10), one(10), (pair, scores, labels)], high_threshold=0.4)[-1] == [1, -1]


def test_a_fast_object_is_followed_by_its_speed():
    xs = [0, 15, 30, 45, 60, 75]
    frames = [*(one(x) for x in xs), *[NOTHING] * 4, one(150)]
    assert tracked(frames)[-1] == [1]
    still = [*(one(0) for _ in xs), *[NOTHING] * 4, one(75)]
    assert tracked(still)[-1] == [-1]


def test_crossing_objects_keep_their_ids():
    def pair(t):
        boxes = np.float32([[10 + 6 * t, 50, 50 + 6 * t, 90], [250 - 6 * t, 58, 290 - 6 * t, 98]])
        return boxes, np.float32([0.9, 0.9]), np.array([0, 0])

    found = tracked([pair(t) for t in range(40)])
    assert found[1:] == [[1, 2]] * 39


def test_kalman_filter_by_hand():
    """Variance 1, process noise 0.01, measurement noise 0.1: predicted variance 2.01, so the gain is 2.01 / 2.11."""
    tracker = Tracker()
    tracker.update(*one(0))
    tracker.update(*one(10))
    state = tracker._tracks
    gain, speed = 2.01 / 2.11, 1 / 2.11
    assert state.motion[0, :, 0] == pytest.approx([10 * gain, 10 * speed])
    expected = [[2.01 - gain * 2.01, 1 - gain * 1], [1 - speed * 2.01, 1.01 - speed * 1]]
    assert state.covariance[0] == pytest.approx(np.array(expected))
    for x in range(20, 1000, 10):
        tracker.update(*one(x))
    assert state is not tracker._tracks and tracker._tracks.motion[0, 1] == pytest.approx([10, 0, 10, 0], abs=0.01)


def test_classes_matter_only_if_asked_for():
    frames = [one(10, label=0), one(10, label=1), one(10, label=0)]
    assert tracked(frames) == [[-1], [1], [1]]
    assert tracked(frames, class_aware=True) == [[-1], [-1], [-1]]
    same = [one(10, label=4), one(12, label=4), one(14, label=4)]
    assert tracked(same, class_aware=True) == tracked(same) == [[-1], [1], [1]]
    assert tracked(frames, class_aware=True, iou_threshold=0.0) == [[-1], [-1], [-1]]


def score(seed, detector, **settings):
    """MOTA and the rest on a generated video with a simulated detector."""
    tracker = Tracker(settings=TrackerSettings(start_threshold=0.6, **settings))
    truth, found = [], []
    for number, (true, seen) in enumerate(detected(seed, 150, 6, detector), start=1):
        ones = np.ones(len(true.ids))
        truth += mot_rows(number, true.boxes, true.ids, ones, true.labels)
        found += mot_rows(number, seen.boxes, tracker.update(*seen), seen.scores, seen.labels)
    return score_tracks(truth, found)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mota_on_videos_of_shapes(seed):
    good = score(seed, Detector(miss=0.02, false=0.1))
    assert good.mota > 0.85 and good.idf1 > 0.9 and good.switches <= 5, good
    noisy = score(seed, Detector(noise=3.0, miss=0.15, false=1.0))
    assert 0.7 < noisy.mota < good.mota and noisy.idf1 > 0.7 and noisy.switches <= 20, noisy
    # without the second stage and the memory there is less
    without = score(seed, Detector(noise=3.0, miss=0.15, false=1.0), lost_frames=0)
    assert without.idf1 < noisy.idf1 - 0.1 and without.switches > noisy.switches


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "text"),
    [
        ([[0, 0, 9, np.nan]], [0.9], [0], "^frame 3: detection 0 has a coordinate or a score that is not a finite"),
        ([[0, 0, 9, 9], [0, 0, np.inf, 9]], [0.9, 0.9], [0, 0], "^frame 3: detection 1 has a coordinate or a score"),
        ([[0, 0, 9, 9]], [np.nan], [0], "^frame 3: detection 0 has"),
        ([[0, 0, 9, 9]], [0.9, 0.8], [0, 0], r"^frame 3: .* got \[1, 4\], \[2\] and \[2\]"),
        ([[0, 0, 9, 9]], [0.9], [], r"^frame 3: .* got \[1, 4\], \[1\] and \[0\]"),
        ([[0, 0, 9]], [0.9], [0], r"^frame 3: .* got \[1, 3\]"),
        ([[0, 0, 9, 9]], [[0.9]], [0], r"^frame 3: .* got \[1, 4\], \[1, 1\]"),
    ],
)
def test_bad_detections_are_named_and_change_nothing(boxes, scores, labels, text):
    tracker = Tracker()
    for _ in range(2):
        tracker.update(*one(10))
    with pytest.raises(UserError, match=text):
        tracker.update(np.float32(boxes), np.float32(scores), np.int64(labels))
    assert tracker.frames == 2 and tracker.update(*one(10)).tolist() == [1]


def test_odd_but_possible_detections():
    empty, inverted = [20, 20, 20, 20], [50, 50, 10, 10]
    huge = [-3e38, -3e38, 3e38, 3e38]
    boxes = np.float32([empty, inverted, huge, [0, 0, 9, 9]])
    tracker = Tracker()
    with np.errstate(all="raise", under="ignore"):
        found = [tracker.update(boxes, np.float32([0.9] * 4), np.arange(4)).tolist() for _ in range(3)]
        assert tracker.update([], [], []).tolist() == []
    assert found[0] == [-1] * 4 and found[2][0] == -1 and found[2][3] > 0


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"high_threshold": 1.5}, "high_threshold must be from 0 to 1, got 1.5"),
        ({"iou_threshold": float("nan")}, "iou_threshold must be from 0 to 1, got nan"),
        ({"confirm_frames": 0}, "confirm_frames must be a whole number from 1, got 0"),
        ({"lost_frames": 2.5}, "lost_frames must be a whole number from 0, got 2.5"),
        ({"process_noise": 0}, "process_noise must be a positive number, got 0"),
    ],
)
def test_settings_that_cannot_be(settings, text):
    with pytest.raises(UserError, match=text):
        TrackerSettings(**settings)


@pytest.mark.parametrize("rate", [0.0, -5.0, float("nan"), float("inf")])
def test_frame_rates_that_cannot_be(rate):
    with pytest.raises(UserError, match="frame_rate must be a positive number, got"):
        Tracker(frame_rate=rate)


def test_zero_detections_for_many_frames_forget_everything():
    tracker = Tracker()
    for _ in range(3):
        tracker.update(*one(10))
    for _ in range(31):
        assert tracker.update(*NOTHING).shape == (0,)
    assert len(tracker) == 0
    assert [tracker.update(*one(10)).tolist() for _ in range(2)] == [[-1], [2]], "ids do not come twice"


def test_two_thousand_boxes():
    rng = np.random.default_rng(0)
    corner, side = rng.uniform(0, 4000, (2000, 2)), rng.uniform(20, 60, (2000, 2))
    boxes = np.float32(np.concatenate([corner, corner + side], axis=1))
    scores, labels = np.full(2000, 0.9, np.float32), np.zeros(2000, np.int64)
    found = tracked([(boxes, scores, labels)] * 3)
    assert sorted(found[1]) == list(range(1, 2001)) and found[2] == found[1]


@pytest.mark.parametrize("frames", [4_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_stays_bounded_over_thousands_of_frames(frames):
    rng, tracker = np.random.default_rng(0), Tracker()
    scores, labels = np.full(4, 0.9, np.float32), np.zeros(4, np.int64)
    most, sizes = 0, []
    for frame in range(frames):
        if frame % 20 == 0:  # four other objects: all confirmed, none found again
            corner = rng.uniform(0, 1e6, (4, 2))
        tracker.update(np.float32(np.concatenate([corner, corner + 50], axis=1)), scores, labels)
        most = max(most, len(tracker))
        if frame in (999, frames - 1):
            sizes.append(len(pickle.dumps(tracker)))  # all that it holds
    assert tracker._next_id == frames // 5 + 1 and most == 12, "four present, and those of the last 31 frames"
    assert sizes[1] < sizes[0] + 20


def test_the_example_of_the_documentation():
    found = doctest.testmod(tracks)
    assert found.attempted == 3 and not found.failed
