import numpy as np

from seg_det.data.plain_transforms import resize_antialiased_only, resize_only
from seg_det.data.resize import resize_antialiased


def test_detection_can_be_resized_as_pillow_does():
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    boxes = np.array([[12, 9, 60, 45], [0, 0, 120, 90]], np.float32)
    smooth, moved, kept = resize_antialiased_only((30, 60))(image, boxes, seed=0)
    assert np.array_equal(smooth, resize_antialiased(image, (30, 60)))
    assert moved.tolist() == [[6, 3, 30, 15], [0, 0, 60, 30]] and kept.tolist() == [0, 1]
    assert smooth.std() < 0.7 * resize_only((30, 60))(image, boxes, seed=0).image.std()  # noise is averaged
