"""What training minimises: functions of raw model output and a batch, vectorised over the batch."""

from seg_det.losses.classification import ClassificationLosses, label_loss
from seg_det.losses.detection import SCORES, DetectionLosses, multibox_loss
from seg_det.losses.segmentation import SegmentationLosses, segmentation_loss

__all__ = [
    "SCORES",
    "ClassificationLosses",
    "DetectionLosses",
    "SegmentationLosses",
    "label_loss",
    "multibox_loss",
    "segmentation_loss",
]
