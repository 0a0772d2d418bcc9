import pytest
import torch

from seg_det.metrics.coverage import Coverage, coverage


def test_objects_by_size():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 20], [0, 0, 40, 40], [0, 0, 32, 32]])
    found = coverage(boxes, torch.tensor([0.2, 0.6, 0.5, 0.4]), 0.5)
    assert list(found) == ["all", "small", "medium", "large"]
    assert found["all"] == (4, 0.5, pytest.approx(1.7 / 4))
    assert found["small"] == (3, pytest.approx(1 / 3), pytest.approx(0.4))  # 32 x 32 belongs to both, as in COCO
    assert found["medium"] == (2, 0.5, pytest.approx(0.45))
    assert found["large"] == Coverage(0, None, None)
