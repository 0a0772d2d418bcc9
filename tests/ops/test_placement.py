"""Where an image lies on its canvas, by hand."""

import pytest

from seg_det.ops.placement import canvas_size, content_size


@pytest.mark.parametrize(
    ("rule", "size", "input_size", "content", "canvas"),
    [
        ("stretch", (360, 480), (320, 320), (320, 320), (320, 320)),
        ("letterbox", (375, 500), (513, 513), (385, 513), (513, 513)),  # 384.75
        ("letterbox", (500, 375), (513, 513), (513, 385), (513, 513)),
        ("letterbox", (100, 100), (320, 512), (320, 320), (320, 512)),
        ("letterbox", (1000, 1), (64, 64), (64, 1), (64, 64)),  # never thinner than a pixel
        ("whole", (360, 480), (320, 320), (360, 480), (384, 480)),
        ("whole", (1024, 2048), (512, 64), (1024, 2048), (1024, 2048)),
        ("whole", (1024, 2048), (513, 769), (1024, 2048), (1025, 2049)),
        ("whole", (500, 375), (513, 320), (500, 375), (513, 384)),
        ("whole", (20, 1), (65, 33), (20, 1), (33, 1)),
        ("whole", (100, 3), (300, 300), (100, 3), (108, 12)),
        ("whole", (1, 33), (32, 32), (1, 33), (32, 64)),
    ],
)
def test_content_and_canvas(rule, size, input_size, content, canvas):
    assert content_size(rule, size, input_size) == content
    assert canvas_size(rule, size, input_size) == canvas


def test_other_multiple():
    assert canvas_size("whole", (33, 64), (16, 32), multiple=16) == (48, 64)


def test_unknown_rule():
    with pytest.raises(ValueError, match="must be one of stretch, letterbox, whole, got 'crop'"):
        content_size("crop", (1, 1), (2, 2))
