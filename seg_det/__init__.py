"""seg_det: mobile semantic segmentation and detection, from labelled images to a verified model on a device."""

__version__ = "0.1.0"
