"""Records of runs and exports for tests, of which only what matters is said."""

from seg_det.runs import ExportRecord, RunRecord

CARD = {
    "task": "detection",
    "name": "ssdlite_v2_shapes",
    "model": {},
    "postprocess": {},
    "categories": [],
    "input_size": [224, 224],
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
}
ENVIRONMENT = {
    **dict.fromkeys(("seg_det", "python", "torch", "system", "device"), "1"),
    **dict.fromkeys(("cpu", "cores", "threads", "gpu")),
}
TRAINING = {"epochs": 1, "steps": 1, "minutes": 0.5, "images": 1, "split": "shapes train", "weights": "none", "seed": 0}
RUN = {
    "verb": "evaluate",
    "name": "ssdlite_v2_shapes",
    "headline": {},
    "model": {"params": 10, "madds": 20, "input_size": [224, 224]},
    "evaluation": {"split": "shapes val", "images": 200, "ms_per_image": 12.1},
    "card": CARD,
}
USUAL = {**RUN, "environment": ENVIRONMENT, "training": TRAINING}


def run_record(parts):
    """The record with these ``parts`` of metrics.json, and the usual values of whatever they need besides."""
    filled = {key: {**USUAL[key], **part} for key, part in parts.items() if part and isinstance(USUAL.get(key), dict)}
    return RunRecord.from_dict({**RUN, **parts, **filled})


def figures(**parts):
    """The figures of a record with these parts."""
    return run_record(parts).figures


EXPORT = {
    "target": "onnx",
    "precision": "int8",
    "pipeline": "full",
    "keep_float": ["head"],
    "input": "image",
    "outputs": ["boxes", "scores"],
    "checkpoint": {"path": "runs/a/best.ckpt", "sha256": "abc", "megabytes": 12.5},
    "versions": {"seg_det": "0.1.0", "onnx": "1.20"},
    "metric": "AP",
    "checkpoint_value": 0.5,
    "file_value": 0.4375,
    "figures": {"checkpoint": {"AP": 0.5, "AP50": 0.75}, "file": {"AP": 0.4375, "AP50": 0.8125, "APs": 0.25}},
    "difference": 0.0625,
    "tolerance": 0.01,
    "accepted": False,
    "largest": {"box in pixels": 1.5, "detections without a partner": 2},
    "images": 200,
    "split": "shapes val",
    "checkpoint_ms": 20.5,
    "file_ms": 8.25,
    "files": ["a.onnx", "a.json"],
    "megabytes": 3.5,
}


def export_record(parts, *, without=()):
    """The record of a rejected file, with these ``parts`` of export.json in place of its own."""
    if "environment" in parts:
        parts = {**parts, "environment": {**ENVIRONMENT, **parts["environment"]}}
    return ExportRecord.from_dict({key: value for key, value in {**EXPORT, **parts}.items() if key not in without})
