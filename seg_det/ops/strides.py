"""Output stride: which layers lose their stride, and which are dilated for it."""

from __future__ import annotations

from collections.abc import Sequence

RULES = ("tf", "torchvision")


def stride_to_dilation(strides: Sequence[int], output_stride: int, *, rule: str = "tf") -> list[tuple[int, int]]:
    """(stride, dilation) for each layer so that the product of strides is at most ``output_stride``.

    Once the wanted stride is reached, later strides become 1 and multiply the dilation. With rule "tf" the dilation starts
    with the layer *after* the one that lost its stride (DeepLab, TF-slim); with "torchvision" with that layer itself.
    Raises ValueError for an output stride that the layers cannot have.
    """
    if rule not in RULES:
        raise ValueError(f'expected dilation rule "tf" or "torchvision", got "{rule}"')
    reached, possible = 1, [1]
    for stride in strides:
        if stride > 1:
            possible.append(possible[-1] * stride)
    if output_stride not in possible[1:]:
        raise ValueError(f"expected an output stride of {possible[1:]}, got {output_stride}")
    layers, dilation = [], 1
    for stride in strides:
        before = dilation
        if reached * stride <= output_stride:
            reached *= stride
        else:
            dilation *= stride
            stride = 1
        layers.append((stride, before if rule == "tf" else dilation))
    return layers
