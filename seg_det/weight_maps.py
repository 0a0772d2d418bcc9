"""How weight files name the tensors of our backbones: one table a naming."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor


@dataclass(frozen=True)
class Naming:
    """A way to name tensors: ``rows`` of (pattern of the file's key, our key with a ``{}`` for each group).

    The first row that matches the whole key counts; ``shift`` is added to groups that are numbers.
    """

    name: str
    mark: str  # pattern of a key that tells this naming from the others
    rows: tuple[tuple[str, str], ...]
    shift: int = 0
    backbone: str = ""  # the one that it belongs to, if there is one alone
    ruler: tuple[str, int] = ("", 0)  # a key and its channels at width 1

    def rename(self, keys: Iterable[str]) -> dict[str, str]:
        """Our key -> the file's key, for every key that a row matches."""
        return {ours: key for key in keys if (ours := self._ours(key)) is not None}

    def fits(self, tensors: Mapping[str, Tensor]) -> str | None:
        """The backbone and width that the tensors are of, None if the names do not tell."""
        key, channels = self.ruler
        return f"{self.backbone}, width {round(tensors[key].shape[0] / channels, 2)}" if key in tensors else None

    def _ours(self, key: str) -> str | None:
        for pattern, template in self.rows:
            if match := re.fullmatch(pattern, key):
                return template.format(*(int(g) + self.shift if g.isdigit() else g for g in match.groups()))
        return None


# features.0 is the stem and features.18 the last 1x1 convolution, so block i of ours is features.{i + 1}.
# The first block does not expand, and its members move up by one.
TORCHVISION_MOBILENET_V2 = Naming(
    name="torchvision MobileNetV2",
    mark=r"features\.1\.conv\.0\.0\.weight",
    rows=(
        (r"features\.0\.0\.(\w+)", "stem.conv.{}"),
        (r"features\.0\.1\.(\w+)", "stem.norm.{}"),
        (r"features\.1\.conv\.0\.0\.(\w+)", "blocks.0.depthwise.conv.{}"),
        (r"features\.1\.conv\.0\.1\.(\w+)", "blocks.0.depthwise.norm.{}"),
        (r"features\.1\.conv\.1\.(\w+)", "blocks.0.project.conv.{}"),
        (r"features\.1\.conv\.2\.(\w+)", "blocks.0.project.norm.{}"),
        (r"features\.18\.0\.(\w+)", "head.conv.{}"),
        (r"features\.18\.1\.(\w+)", "head.norm.{}"),
        (r"features\.(\d+)\.conv\.0\.0\.(\w+)", "blocks.{}.expand.conv.{}"),
        (r"features\.(\d+)\.conv\.0\.1\.(\w+)", "blocks.{}.expand.norm.{}"),
        (r"features\.(\d+)\.conv\.1\.0\.(\w+)", "blocks.{}.depthwise.conv.{}"),
        (r"features\.(\d+)\.conv\.1\.1\.(\w+)", "blocks.{}.depthwise.norm.{}"),
        (r"features\.(\d+)\.conv\.2\.(\w+)", "blocks.{}.project.conv.{}"),
        (r"features\.(\d+)\.conv\.3\.(\w+)", "blocks.{}.project.norm.{}"),
    ),
    shift=-1,
    backbone="MobileNetV2",
    ruler=("features.17.conv.2.weight", 320),
)
SEG_DET_MODEL = Naming(name="seg_det model", mark=r"backbone\..+", rows=((r"backbone\.(.+)", "{}"),))
SEG_DET = Naming(name="seg_det", mark=r"(stem|blocks)\..+", rows=((r"(.+)", "{}"),))

NAMINGS: Mapping[str, Naming] = MappingProxyType(
    {naming.name: naming for naming in (TORCHVISION_MOBILENET_V2, SEG_DET_MODEL, SEG_DET)}
)


def detect(keys: Iterable[str]) -> Naming | None:
    """The first naming whose mark is among the keys, None if there is none."""
    keys = tuple(keys)
    return next((n for n in NAMINGS.values() if any(re.fullmatch(n.mark, key) for key in keys)), None)
