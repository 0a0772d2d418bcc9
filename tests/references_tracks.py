"""Tracks and their scores by other packages: trackers 2.6.1 and motmetrics 1.4.0, imported when they are asked for."""

from collections.abc import Sequence

import numpy as np
from detections import Found

NAMES = {
    "lost_frames": "lost_track_buffer",
    "start_threshold": "track_activation_threshold",
    "confirm_frames": "minimum_consecutive_frames",
    "iou_threshold": "minimum_iou_threshold",
    "high_threshold": "high_conf_det_threshold",
}


def theirs(frames: Sequence[Found], rate: float, settings: dict) -> list[np.ndarray]:
    """The ids i64 [N] of ByteTrackTracker, from 0, for the detections of each frame; -1 for none."""
    import supervision
    from trackers import ByteTrackTracker

    tracker = ByteTrackTracker(frame_rate=rate, **{NAMES[key]: value for key, value in settings.items()})
    ids = []
    for found in frames:
        count = len(found.boxes)
        given = np.full(count, -1, np.int64)
        place = {"place": np.arange(count)}  # it returns the detections in another order
        result = tracker.update(supervision.Detections(xyxy=found.boxes, confidence=found.scores, data=place))
        if len(result):
            given[result.data["place"]] = result.tracker_id
        ids.append(given)
    return ids


def _overlaps(truth: Sequence, tracked: Sequence) -> list[np.ndarray]:
    from trackers.eval.box import box_iou

    return [box_iou(np.float64(a), np.float64(b)) for (a, _), (b, _) in zip(truth, tracked, strict=True)]


def clear_and_identity(truth: Sequence, tracked: Sequence) -> dict[str, float]:
    """TrackEval's figures as the package trackers adapted it; both arguments are (boxes xyxy, ids) of each frame."""
    from trackers.eval import compute_clear_metrics
    from trackers.eval.identity import compute_identity_metrics

    arguments = [ids for _, ids in truth], [ids for _, ids in tracked], _overlaps(truth, tracked)
    found = compute_clear_metrics(*arguments) | compute_identity_metrics(*arguments)
    return {
        key: found[key] for key in ("MOTA", "MOTP", "IDSW", "Frag", "CLR_TP", "CLR_FN", "CLR_FP", "IDF1", "IDP", "IDR")
    }


def motmetrics_scores(truth: Sequence, tracked: Sequence) -> dict[str, float]:
    """motmetrics' figures for the same arguments."""
    import motmetrics

    if not hasattr(np, "asfarray"):
        np.asfarray = lambda values: np.asarray(values, np.float64)
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for (_, a), (_, b), overlap in zip(truth, tracked, _overlaps(truth, tracked), strict=True):
        accumulator.update(list(a), list(b), np.where(overlap >= 0.5, 1 - overlap, np.nan))
    names = ["mota", "idf1", "num_switches", "num_misses", "num_false_positives"]
    row = motmetrics.metrics.create().compute(accumulator, metrics=names, name="all").iloc[0]
    return {name: float(row[name]) for name in names}
