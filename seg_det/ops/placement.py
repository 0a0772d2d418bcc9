"""Where an image lies on the canvas that a network takes, by the rule of ``ModelCard.resize``; sizes are (H, W) in pixels.

``stretch`` fills the input size, whatever the aspect ratio. ``letterbox`` scales the image until it just fits into the input
size. ``whole`` leaves the image as it is. The content lies at the top left; what it leaves of the canvas is filled.
"""

from __future__ import annotations

Size = tuple[int, int]

RULES = ("stretch", "letterbox", "whole")
CROP_FRACTION = 0.875  # of the sides that centre_crop keeps: 224 of 256 pixels
MULTIPLE = 32  # of a whole image's canvas: the coarsest stride of the backbones


def content_size(rule: str, size: Size, input_size: Size) -> Size:
    """Size that an image of ``size`` has on its canvas; ``whole`` does not ask for ``input_size``.

    Raises ValueError for an unknown rule.
    """
    if rule == "stretch":
        return input_size
    if rule == "whole":
        return size
    if rule == "letterbox":
        scale = min(input_size[0] / size[0], input_size[1] / size[1])
        height, width = (max(1, round(side * scale)) for side in size)
        return height, width
    raise ValueError(f"the rule of resizing must be one of {', '.join(RULES)}, got {rule!r}")


def canvas_size(rule: str, size: Size, input_size: Size, *, multiple: int = MULTIPLE) -> Size:
    """Size of the canvas for an image of ``size``: the input size, for ``whole`` the next that leaves the same remainders.

    Divided by ``multiple`` each side leaves what the input's leaves: with aligned corners the cells of a map lie 16 pixels
    apart at 513 and at 1025, which a network of the one size reads off an image of the other, but 16.5 at 512.

    Raises ValueError for an unknown rule.
    """
    height, width = content_size(rule, size, input_size)
    if rule != "whole":
        return input_size
    return _next(height, input_size[0] % multiple, multiple), _next(width, input_size[1] % multiple, multiple)


def _next(side: int, remainder: int, multiple: int) -> int:
    """The least length of at least ``side`` that leaves ``remainder``."""
    return -(-(side - remainder) // multiple) * multiple + remainder
