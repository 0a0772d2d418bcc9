"""A real segmenter of TensorFlow on real images: only equal numerics find as many pixels as its own graph did."""

import pytest

from seg_det.data.voc_seg import read_voc_seg
from seg_det.evaluation.measure import evaluate
from seg_det.kinds.segmentation import SEGMENTATION
from seg_det.predict.loading import network_predictor
from seg_det.predict.published import load_published

FILE = "deeplabv3_mobilenet_v2_voc_tf_folded.pth"


# The figures of the logits came with the weights: 65.49 and 91.49 %, by an implementation that shares no code with this one.
# Those of the labels, which are argmax at the head's stride, were measured here.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "miou", "accuracy", "within"), [("logits", 0.6549, 0.9149, 0.003), ("labels", 0.6287, 0.9081, 0.001)]
)
def test_photographs(real_data, output, miou, accuracy, within):
    source = read_voc_seg(root=real_data / "data" / "voc_seg_from_coco", split="trainval")
    model, card = load_published(str(real_data / "weights" / FILE), source.categories)
    card = card.replace(postprocess={**card.postprocess, "output": output})
    found = evaluate(
        SEGMENTATION, network_predictor(model, card), source, batch_size=4, num_workers=0
    ).report.headline()
    assert len(source.records) == 70
    assert found["mIoU"] == pytest.approx(miou, abs=within)
    assert found["pixel_accuracy"] == pytest.approx(accuracy, abs=within)
