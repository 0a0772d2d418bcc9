"""A real detector of TensorFlow on real images: only equal numerics find as many people as its own graph did."""

import pytest

from seg_det.data.classes import only_classes
from seg_det.data.coco import read_coco
from seg_det.data.voc import read_voc
from seg_det.evaluation.measure import evaluate
from seg_det.kinds.detection import DETECTION
from seg_det.predict.loading import network_predictor
from seg_det.predict.published import load_published
from seg_det.weights import load_model

FILE = "ssdlite_mobilenet_v2_person_tf.pth"


def coco(data, split):
    annotations = data / "coco2017_subset" / "annotations" / f"instances_{split}.json"
    return read_coco(images=data / "coco2017_subset" / split, annotations=annotations)


SOURCES = {
    "train2017": lambda data: coco(data, "train2017"),
    "val2017": lambda data: coco(data, "val2017"),
    "voc": lambda data: read_voc(root=data / "VOCdevkit" / "VOC2012", split="trainval"),
}


# The figures are those of an implementation that shares no code with this one: scores above 0.01, suppression at an IoU of
# 0.6, at most 100 boxes, the class person alone, objects marked difficult counted.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "ap", "ap50"),
    [("train2017", 123, 0.180, 0.392), ("val2017", 129, 0.213, 0.456), ("voc", 70, 0.413, 0.720)],
)
def test_people(real_data, name, images, ap, ap50):
    source = only_classes(SOURCES[name](real_data / "data"), ["person"])
    model, card = load_published(str(real_data / "weights" / FILE), source.categories)
    assert len(source.records) == images and len(model.anchors(card.input_size)) == 1917
    card = card.replace(postprocess={**card.postprocess, "score_threshold": 0.01})
    found = evaluate(DETECTION, network_predictor(model, card), source, batch_size=16, num_workers=0).report.headline()
    assert found["AP"] == pytest.approx(ap, abs=0.005)
    assert found["AP50"] == pytest.approx(ap50, abs=0.005)


def test_every_tensor_has_its_place(real_data):
    source = only_classes(SOURCES["voc"](real_data / "data"), ["person"])
    model, _ = load_published(str(real_data / "weights" / FILE), source.categories)
    report = load_model(model, real_data / "weights" / FILE)
    assert (report.loaded, report.unused, report.kept, report.notes, report.warnings) == (404, (), (), (), ())
