"""What the readers said of the data, brought to the doctor's faults."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from seg_det.data.records import Record
from seg_det.doctor.findings import ERROR, NOTE, Finding, Found, Scope, Split, found

# The first pattern that is in a sentence names the fault.
PATTERNS = tuple(
    (re.compile(pattern), fault)
    for pattern, fault in (
        (r"has a coordinate that is not a finite number", "box-not-finite"),
        (r"has zero or negative size", "box-degenerate"),
        (r"lies wholly outside its image", "box-outside"),
        (r"reaches outside its image", "box-reaches-outside"),
        (r"is empty \(0 bytes\)", "image-empty"),
        (r"truncated", "image-truncated"),
        (r"is damaged inside", "image-damaged"),
        (r"inside, which is not read", "image-format-unknown"),
        (r"pictures, and which of them is meant", "image-several-frames"),
        (r"million pixels are read", "image-too-large"),
        (r"^(the image|the mask) .* is broken", "image-unreadable"),
        (r"image id \S+: the image .* is broken", "image-unreadable"),
        (r"but is declared with|before its EXIF rotation", "image-size-differs"),
        (r"the mask of .* is missing", "mask-missing"),
        (r"belongs to no image", "mask-without-image"),
        (r"the masks hold 255, which is ignored", "mask-black-and-white"),
        (r"the mask .* has .* pixels, its image", "mask-size-differs"),
        (r"the mask .* (holds|is a colour picture)", "mask-value-unknown"),
        (r"category id \S+ is declared twice|image id \S+ is declared twice", "id-twice"),
        (r"both name|are the same file|is that of image id|have the same label file|which both are", "image-listed-twice"),
        (r"has the name of .* beside it", "image-listed-twice"),
        (r"is listed \d+ times|stands in the list \d+ times|it stands in line \d+ already", "image-listed-twice"),
        (r"is about image id", "annotation-lost"),
        (r"is about category id|its class is not in the class list|the class \S+ is none of", "class-undeclared"),
        (r"its index .* is none of the|the folder .* is none of the", "class-undeclared"),
        (r"has no image: none lies in", "class-empty"),
        (r"the annotation .* is missing", "image-without-annotation"),
        (r"there is no (image|such file)|the split lists .* holds no", "image-missing"),
        (r"needs a (bbox|segmentation|whole)|has no bndbox|not valid XML|is not class x y|numbers are|has a polygon|"
         r"has no polygon|has run lengths|is a box, and masks need", "annotation-malformed"),
    )
)  # fmt: skip
IMAGE_ID = re.compile(r"image id (-?\d+)")
IMAGE = re.compile(r"the (?:image|JPEG) (\S.*?) (?:is|has|holds|cannot)\b")
LABELS = re.compile(r"^(\S.*?\.(?:xml|txt))\b(?=[:,])")
BOX = re.compile(r"its box (?:\[([^]]*)\] = )?\[?(?P<numbers>[-+.\deE, ]+?)\]? (?:has|lies|reaches)")


def check_sentences(scope: Scope) -> Iterator[Found]:
    """The problems that the readers listed: errors where ``dataset.on_bad=error`` would refuse them, else notes."""
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for sentence, finding in _located(scope).items():
        refused = getattr(sentence, "refused", True)
        fault = fault_of(sentence, "reader-problem" if refused else "reader-note")
        groups[fault, ERROR if refused else NOTE].append(finding)
    for (fault, severity), findings in groups.items():
        yield from found(fault, findings, severity)


def _located(scope: Scope) -> dict[str, Finding]:
    """A finding for each sentence; of one that both parts of one reading list, in the part that has the image."""
    located: dict[str, Finding] = {}
    for split in scope.splits:
        if not split.source.problems:
            continue
        places = Places(split)
        for sentence in split.source.problems:
            finding = places.located(str(sentence))
            if sentence not in located or _known(finding) > _known(located[sentence]):
                located[sentence] = finding
    return located


def _known(finding: Finding) -> tuple[bool, bool]:
    return bool(finding.boxes), finding.file is not None


def fault_of(sentence: str, usual: str) -> str:
    """The fault that a sentence of a reader or a decoder is about, else ``usual``."""
    return next((fault for pattern, fault in PATTERNS if pattern.search(sentence)), usual)


class Places:
    """Where the images of a split lie, to find those that sentences name."""

    def __init__(self, split: Split) -> None:
        self._split = split.name
        self._by_id: dict[int | None, Record] = {record.image_id: record for record in split.source.records}
        self._by_stem: dict[str, Record] = {record.path.stem: record for record in split.source.records}

    def located(self, sentence: str) -> Finding:
        """A finding with the image and the box that the sentence names, as far as they can be told."""
        told, labels, file = IMAGE_ID.search(sentence), LABELS.search(sentence), IMAGE.search(sentence)
        image_id = int(told[1]) if told else None
        record = self._by_id.get(image_id) or self._by_stem.get(Path(labels[1]).stem if labels else "")
        if record is None:  # left out with all its objects
            return Finding(sentence, self._split, Path(file[1]) if file else None, image_id)
        box = _box_in(sentence, getattr(record, "size", None))
        return Finding(sentence, self._split, record.path, record.image_id, boxes=(box,) if box else ())


def _box_in(sentence: str, size: tuple[int, int] | None) -> tuple[float, ...] | None:
    """The box of a sentence as xyxy pixels: of COCO's [x, y, w, h], VOC's corners or YOLO's shares."""
    told = BOX.search(sentence)
    if told is None:
        return None
    try:
        a, b, c, d = map(float, re.split(r"[,\s]+", told["numbers"].strip()))
    except ValueError:
        return None
    if told[1] is None and size is not None:
        height, width = size
        return (a - c / 2) * width, (b - d / 2) * height, (a + c / 2) * width, (b + d / 2) * height
    return (a, b, a + c, b + d) if "w, h" in (told[1] or "") else (a - 1, b - 1, c, d)
