"""MOTA, IDF1 and the rest against sums by hand and two other packages; MOT's text format and its broken lines."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seg_det.errors import UserError
from seg_det.metrics.tracking import MotRow, main, mot_line, mot_rows, read_mot, score_tracks, write_mot

RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "tracks.json").read_text())["sequences"]
SCORED = [recorded for recorded in RECORDED if "truth" in recorded]
ROW = "1,2,3,4,5,6,1"


def row(frame, number, left=0.0, width=10.0, **more):
    return MotRow(frame, number, left, 0.0, width, 10.0, **more)


def rows_of(recorded):
    """The true rows, and those of the recorded tracks."""
    truth, found = [], []
    for number, (true, boxes, scores, ids) in enumerate(
        zip(recorded["truth"], recorded["boxes"], recorded["scores"], recorded["ids"], strict=True), start=1
    ):
        true = np.array(true).reshape(-1, 5)
        ones = np.ones(len(true), np.int64)
        truth += mot_rows(number, true[:, 1:], true[:, 0], ones, ones)
        found += mot_rows(number, np.float32(boxes).reshape(-1, 4), np.array(ids), np.array(scores), np.array(ids))
    return truth, found


def test_perfect_tracks_under_other_names():
    truth = [row(t, k, left=20 * k) for t in (1, 2, 3) for k in (1, 2)]
    found = score_tracks(truth, [one._replace(id=9 - one.id) for one in reversed(truth)])
    assert found == score_tracks(truth, truth)
    assert (found.mota, found.motp, found.idf1, found.id_precision, found.id_recall) == (1, 1, 1, 1, 1)
    assert (found.switches, found.fragmentations, found.matches, found.misses, found.false_positives) == (0, 0, 6, 0, 0)


def test_a_switch_by_hand():
    """One object in four frames, the track of which changes after two: MOTA 1 - 1 / 4, and half of it has the right identity."""
    found = score_tracks([row(t, 1) for t in range(1, 5)], [row(1, 5), row(2, 5), row(3, 6), row(4, 6)])
    assert (found.switches, found.fragmentations, found.matches) == (1, 0, 4)
    assert found.mota == 0.75
    assert (found.idf1, found.id_precision, found.id_recall) == (0.5, 0.5, 0.5)


def test_misses_false_positives_and_overlap_by_hand():
    """Boxes 10 wide, shifted by 2: IoU 80 / 120. The second frame is missed, the third has a box too many."""
    truth = [row(1, 1), row(2, 1), row(3, 1), row(2, 2, left=50), row(3, 2, left=50)]
    tracks = [row(1, 7, left=2), row(3, 7, left=2), row(2, 8, left=50), row(3, 8, left=50), row(3, 9, left=100)]
    found = score_tracks(truth, tracks)
    assert (found.matches, found.misses, found.false_positives, found.objects) == (4, 1, 1, 5)
    assert (found.switches, found.fragmentations) == (0, 1)
    assert found.mota == pytest.approx(1 - 2 / 5)
    assert found.motp == pytest.approx((2 / 3 + 2 / 3 + 1 + 1) / 4)
    assert found.idf1 == pytest.approx(2 * 4 / 10)
    strict = score_tracks(truth, tracks, iou_threshold=0.7)
    assert (strict.matches, strict.misses, strict.false_positives, strict.fragmentations) == (2, 3, 3, 0)
    assert strict.mota == pytest.approx(1 - 6 / 5), "many errors make it negative"


def test_a_match_is_kept_while_it_overlaps_enough():
    truth = [row(1, 1), row(2, 1)]
    tracks = [row(1, 5, left=1), row(2, 5, left=3), row(2, 6)]  # 6 fits better, but 5 is the one of before
    found = score_tracks(truth, tracks)
    assert (found.switches, found.false_positives) == (0, 1) and found.motp == pytest.approx((9 / 11 + 7 / 13) / 2)


def test_a_switch_after_a_gap_counts():
    found = score_tracks([row(t, 1) for t in (1, 2, 3)], [row(1, 5), row(2, 4, left=500), row(3, 6)])
    assert (found.switches, found.fragmentations, found.misses, found.false_positives) == (1, 1, 1, 1)


def test_identity_is_decided_for_the_whole_video():
    """Track 5 covers both objects in turn, longer the second one: that is the one it stands for."""
    truth = [row(t, 1) for t in (1, 2)] + [row(t, 2, left=50) for t in (3, 4, 5)]
    found = score_tracks(truth, [row(t, 5, left=0 if t < 3 else 50) for t in range(1, 6)])
    assert found.mota == 1 and found.switches == 0
    assert (found.id_precision, found.id_recall, found.idf1) == (0.6, 0.6, pytest.approx(0.6))


def test_objects_that_are_not_to_be_scored_are_left_out():
    truth = [row(1, 1), row(1, 2, left=50, score=0.0)]
    assert score_tracks(truth, [row(1, 1)]).mota == 1
    assert score_tracks(truth, [row(1, 1), row(1, 2, left=50)]).false_positives == 1


def test_classes():
    truth, tracks = [row(1, 1, category=3)], [row(1, 1, category=4)]
    assert score_tracks(truth, tracks).matches == 1
    assert score_tracks(truth, tracks, class_aware=True).matches == 0
    assert score_tracks(truth, truth, class_aware=True).matches == 1


def test_no_tracks_and_no_truth():
    found = score_tracks([row(1, 1)], [])
    assert (found.mota, found.motp, found.idf1, found.id_precision, found.misses) == (0, 0, 0, 0, 1)
    for truth in ([], [row(1, 1, score=0.0)]):
        with pytest.raises(UserError, match="the truth has no object to score"):
            score_tracks(truth, [row(1, 1)])


@pytest.mark.parametrize("threshold", [0, 1.5, float("nan")])
def test_thresholds_that_cannot_be(threshold):
    with pytest.raises(UserError, match="the IoU threshold must be greater than 0 and at most 1, got"):
        score_tracks([row(1, 1)], [], iou_threshold=threshold)


def test_boxes_without_an_area_match_nothing():
    with np.errstate(all="raise"):
        assert score_tracks([row(1, 1, width=0)], [row(1, 1, width=0)]).matches == 0


@pytest.mark.parametrize("recorded", SCORED, ids=lambda recorded: recorded["name"])
def test_figures_are_those_of_trackeval(recorded):
    """As adapted in the package trackers 2.6.1."""
    ours, theirs = score_tracks(*rows_of(recorded)), recorded["trackers"]
    assert (ours.switches, ours.fragmentations) == (theirs["IDSW"], theirs["Frag"])
    assert (ours.matches, ours.misses, ours.false_positives) == (
        theirs["CLR_TP"],
        theirs["CLR_FN"],
        theirs["CLR_FP"],
    )
    found = (ours.mota, ours.motp, ours.idf1, ours.id_precision, ours.id_recall)
    assert found == pytest.approx([theirs[key] for key in ("MOTA", "MOTP", "IDF1", "IDP", "IDR")], abs=1e-12)


@pytest.mark.parametrize("recorded", SCORED, ids=lambda recorded: recorded["name"])
def test_figures_are_those_of_motmetrics(recorded):
    """Of version 1.4.0. It keeps a match over frames without one, so it counts other switches in the crowd: 4, where it is 8."""
    ours, theirs = score_tracks(*rows_of(recorded)), recorded["motmetrics"]
    assert ours.idf1 == pytest.approx(theirs["idf1"], abs=1e-12)
    assert (ours.misses, ours.false_positives) == (theirs["num_misses"], theirs["num_false_positives"])
    further = 4 if recorded["name"] == "crowd" else 0
    assert ours.switches == theirs["num_switches"] + further
    assert ours.mota == pytest.approx(theirs["mota"] - further / ours.objects, abs=1e-12)


def test_a_file_is_read_as_it_was_written(tmp_path):
    rows = [
        MotRow(1, 3, 10.25, -2.5, 30.125, 40.0, 0.75, 17, 0.5),
        MotRow(12, 0, 1234567.891, 0.0, 0.0, 5.0),
    ]
    path = tmp_path / "folder" / "tracks.txt"
    write_mot(path, (one for one in rows))
    assert path.read_text() == "1,3,10.25,-2.5,30.125,40,0.75,17,0.5\n12,0,1234567.891,0,0,5,1,-1,-1\n"
    assert read_mot(path) == rows
    assert all(type(number) is int for one in read_mot(path) for number in (one.frame, one.id, one.category))
    numpy = MotRow(np.int64(1), np.int64(3), *np.float32([12.3, 1, 2, 3, 0.9]), np.int64(2))
    assert mot_line(numpy) == "1,3,12.3,1,2,3,0.9,2,-1\n"


def test_nothing_is_written_or_read_of_nothing(tmp_path):
    write_mot(tmp_path / "none.txt", [])
    assert (tmp_path / "none.txt").read_text() == "" and read_mot(tmp_path / "none.txt") == []


def test_rows_of_a_frame():
    boxes, scores = np.float32([[1, 2, 4, 8], [0, 0, 1, 1]]), np.float32([0.5, 0.25])
    rows = mot_rows(7, boxes, np.array([3, -1]), scores, np.array([17, 18]))
    assert list(rows) == [MotRow(7, 3, 1.0, 2.0, 3.0, 6.0, 0.5, 17)]


def test_other_lines_of_the_format(tmp_path):
    path = tmp_path / "tracks.txt"
    path.write_bytes(
        b"\xef\xbb\xbf1, 2, 3.5, 4, 5, 6, 1\r\n\r\n2,2,3,4,5,6,0.5,-1,-1,-1\n3,2,3,4,5,6,0.5,8.25,9.5,7\n4,2,3,4,5,6,1,8"
    )
    first, second, third, fourth = read_mot(path)
    assert first == MotRow(1, 2, 3.5, 4, 5, 6)
    assert second == MotRow(2, 2, 3, 4, 5, 6, 0.5) and third == second._replace(frame=3), "places in the world"
    assert fourth.category == 8 and fourth.visibility == -1


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("1,2,3,4,5,6", "line 3 has 6 columns, not 7 to 10: write frame, id, left"),
        ("1 2 3 4 5 6 1", "line 3 has 1 columns"),
        ("1,2,3,4,5,6,1,1,1,1,1", "line 3 has 11 columns"),
        ("1,2,x,4,5,6,1", "line 3: 'x' is not a number; write frame"),
        ("1,2,,4,5,6,1", "line 3: '' is not a number"),
        ("1,2,nan,4,5,6,1", "line 3: the left is nan, not a finite number"),
        ("1,2,3,4,inf,6,1", "line 3: the width is inf, not a finite number"),
        ("0,2,3,4,5,6,1", "line 3: the frame is 0, not a whole number from 1"),
        ("1.5,2,3,4,5,6,1", "line 3: the frame is 1.5, not a whole number"),
        ("1,-1,3,4,5,6,1", "line 3: the id is -1, not a whole number from 0"),
        ("1,1e300,3,4,5,6,1", r"line 3: the id is 1.*e\+300, not a whole number from 0 to 2\^53"),
        ("1,2,3,4,5,6,1,0.5,1", "line 3: the class is 0.5, not a whole number"),
        ("1,2,3,4,-5,6,1", "line 3: the box is -5 x 6 pixels, which is negative"),
        ("9,1,3,4,5,6,1", "line 3: id 1 is in frame 9 already, in line 1; an object has one line in a frame"),
    ],
)
def test_broken_lines_are_named(tmp_path, line, text):
    path = tmp_path / "tracks.txt"
    path.write_text(f"9,1,3,4,5,6,1\n\n{line}\n")
    with pytest.raises(UserError, match=f"^{path}, {text}"):
        read_mot(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"none.txt cannot be read \(No such file or directory\)"):
        read_mot(tmp_path / "none.txt")
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        read_mot(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00")
    with pytest.raises(UserError, match=r"photo.jpg cannot be read \(it is no text\)"):
        read_mot(tmp_path / "photo.jpg")


def test_what_could_not_be_read_is_not_written(tmp_path):
    path = tmp_path / "tracks.txt"
    path.write_text(ROW)
    with pytest.raises(UserError, match="^frame 4, id 2 cannot be written as a track: the left is nan"):
        write_mot(path, [row(3, 2), row(4, 2, left=float("nan"))])
    assert path.read_text() == ROW and [p.name for p in tmp_path.iterdir()] == ["tracks.txt"]
    with pytest.raises(UserError, match="the id is -1"):
        mot_line(row(1, -1))


def test_the_command(tmp_path):
    truth, tracks = tmp_path / "truth.txt", tmp_path / "tracks.txt"
    write_mot(truth, [row(t, 1, category=1) for t in range(1, 5)])
    write_mot(tracks, [row(t, 5 if t < 3 else 6) for t in range(1, 5)])
    words = [sys.executable, "-W", "error", "-m", "seg_det.metrics.tracking", truth, tracks]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert (lines["mota"], lines["idf1"], lines["switches"], lines["false positives"]) == ("0.7500", "0.5000", "1", "0")


def test_the_command_s_options_and_errors(tmp_path, capsys):
    truth, tracks = tmp_path / "truth.txt", tmp_path / "tracks.txt"
    write_mot(truth, [row(1, 1, category=1)])
    write_mot(tracks, [row(1, 1, left=1, category=2)])
    assert main([str(truth), str(tracks), "--iou", "0.9"]) == 0
    assert "matches          0\n" in capsys.readouterr().out
    assert main([str(truth), str(tracks)]) == 0
    assert "matches          1\n" in capsys.readouterr().out
    assert main([str(truth), str(tracks), "--class-aware"]) == 0
    assert "matches          0\n" in capsys.readouterr().out
    tracks.write_text("1,1,a,0,1,1,1")
    assert main([str(truth), str(tracks)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tracks}, line 1: 'a' is not a number")
