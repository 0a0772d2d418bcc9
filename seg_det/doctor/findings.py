"""What the doctor can find: a named fault with a severity, and each place where it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from seg_det.data.records import ClassificationSource, DetectionSource, Source

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")  # the gravest first


class Fault(NamedTuple):
    """A kind of fault: how grave it is, and what it is about and what to do, for the page."""

    severity: str
    about: str


FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        # of the readers
        "split-unreadable": Fault(ERROR, "A split cannot be read at all."),
        "reader-problem": Fault(ERROR, "The reader cannot use a part of the data."),
        "reader-note": Fault(NOTE, "The reader found something doubtful, which may be meant."),
        "annotation-malformed": Fault(ERROR, "An annotation lacks a part or has one of another form."),
        "annotation-lost": Fault(ERROR, "An annotation is about an image that is not declared."),
        "id-twice": Fault(ERROR, "An id is declared twice."),
        # of the files
        "image-missing": Fault(ERROR, "An image is listed, but there is no such file."),
        "image-empty": Fault(ERROR, "A file has no content. Fetch it again."),
        "image-truncated": Fault(ERROR, "The end of a file is missing. Fetch it again."),
        "image-unreadable": Fault(ERROR, "A file cannot be decoded. Fetch it again or remove it from the data set."),
        "image-damaged": Fault(ERROR, "A file decodes, but with errors inside: a part of the picture is wrong."),
        "image-format-unknown": Fault(ERROR, "A file has a format that is not read. Convert it."),
        "image-several-frames": Fault(ERROR, "A file holds several pictures. Save the intended one by itself."),
        "image-too-large": Fault(ERROR, "An image has more pixels than the limit data.max_pixels."),
        "image-size-differs": Fault(ERROR, "The annotations give a size that the image does not have."),
        "image-without-annotation": Fault(ERROR, "An image has no annotation file."),
        "image-suffix-wrong": Fault(NOTE, "The content has another format than the file's suffix says. It is read."),
        "image-extreme-aspect": Fault(WARNING, "One side is more than five times the other: resizing distorts it."),
        "image-tiny": Fault(WARNING, "The shorter side has less than 32 pixels."),
        "image-size-unusual": Fault(NOTE, "The image is ten times larger or smaller than the typical one."),
        # of the pixels
        "image-one-colour": Fault(WARNING, "All pixels have practically one colour."),
        "image-dark": Fault(WARNING, "Even the brightest pixels are nearly black."),
        "image-bright": Fault(WARNING, "Even the darkest pixels are nearly white."),
        "image-blurry": Fault(NOTE, "The image has no sharp edge."),
        "image-low-information": Fault(NOTE, "The image has few different tones."),
        "image-greyscale": Fault(NOTE, "A greyscale image among colour images."),
        # one picture several times
        "image-listed-twice": Fault(ERROR, "One file is listed several times in a split, under one id or several."),
        "duplicate-file": Fault(WARNING, "Files with the same bytes in one split: the picture counts several times."),
        "duplicate-pixels": Fault(
            WARNING, "Files with the same pixels in one split: the picture counts several times."
        ),
        "near-duplicate": Fault(NOTE, "Images of one split that look alike."),
        "leak-file": Fault(ERROR, "A file of the validation split is also in the training split."),
        "leak-bytes": Fault(ERROR, "A file of the validation split has the same bytes as one of the training split."),
        "leak-pixels": Fault(ERROR, "An image of the validation split has the same pixels as a training image."),
        "leak-near": Fault(WARNING, "An image of the validation split looks the same as a training image."),
        "leak-frames": Fault(WARNING, "Neighbouring frames of one video are in the training and the validation split."),
        "leak-unchecked": Fault(NOTE, "Not all files could be compared in the time of the quick check."),
        "picture-of-two-classes": Fault(ERROR, "The same picture is in two classes."),
        # boxes
        "box-not-finite": Fault(ERROR, "A coordinate is not a finite number."),
        "box-degenerate": Fault(ERROR, "A box has zero or negative size."),
        "box-outside": Fault(ERROR, "A box lies wholly outside its image."),
        "box-reaches-outside": Fault(ERROR, "A box reaches outside its image by more than a pixel."),
        "box-doubled": Fault(NOTE, "Two boxes of one class have an IoU above 0.95: the object was labelled twice."),
        "box-identical": Fault(WARNING, "Two boxes of one class are the same: the object was labelled twice."),
        "box-of-two-classes": Fault(WARNING, "The same box has two classes."),
        "box-covers-image": Fault(NOTE, "A box covers more than 95 % of its image."),
        "box-below-pixel": Fault(NOTE, "A side is below a pixel at data.size: training leaves the object out."),
        "objects-below-pixel": Fault(
            WARNING, "Objects below a pixel at data.size are left out of the training: an error where those are all."
        ),
        "box-tiny": Fault(NOTE, "The longer side is below 8 pixels at data.size: the object is hardly learned."),
        "box-in-crowd": Fault(NOTE, "An object lies in a crowd region of its class."),
        "box-without-anchor": Fault(NOTE, "Objects that match no anchor are learned badly."),
        "image-crowded": Fault(NOTE, "An image has more than 100 objects; evaluation counts 100 detections an image."),
        "images-without-objects": Fault(NOTE, "Images without objects serve as background only."),
        # classes
        "class-undeclared": Fault(ERROR, "A label is of a class that the class list does not have."),
        "class-unused": Fault(WARNING, "A class of the list has no object in any split."),
        "class-alike": Fault(WARNING, "Two class names differ only in case, blanks, marks or a plural s."),
        "class-rare": Fault(NOTE, "A class has fewer than 10 objects to learn from."),
        "class-not-in-train": Fault(WARNING, "A class is in the validation split only, so it cannot be learned."),
        "class-not-in-val": Fault(NOTE, "A class is in the training split only, so it is not measured."),
        "class-imbalance": Fault(NOTE, "The most frequent class has more than 100 times the objects of the rarest."),
        "class-only-crowd": Fault(WARNING, "All objects of a class are crowd regions, so it cannot be learned."),
        "class-only-difficult": Fault(WARNING, "All objects of a class are difficult, so it is not measured."),
        "class-empty": Fault(ERROR, "A class has no image."),
        # masks
        "mask-missing": Fault(ERROR, "An image has no mask."),
        "mask-without-image": Fault(ERROR, "A mask belongs to no image."),
        "mask-size-differs": Fault(ERROR, "A mask and its image differ in size."),
        "mask-value-unknown": Fault(ERROR, "A mask has a value or a colour that is no class's."),
        "mask-black-and-white": Fault(ERROR, "The masks are black and white, and 255 is not counted."),
        "mask-all-ignored": Fault(WARNING, "Every pixel of a mask is ignored."),
        "mask-nearly-ignored": Fault(NOTE, "More than 95 % of the pixels of a mask are ignored."),
        "masks-of-one-class": Fault(WARNING, "All masks of a split hold the same single class."),
        "class-few-pixels": Fault(NOTE, "A class has less than 0.1 % of the labelled pixels."),
    }
)


class Finding(NamedTuple):
    """One place where a fault was found."""

    sentence: str
    split: str = ""  # name of the source, "coco val2017"; empty where it is about all
    file: Path | None = None  # an image
    image_id: int | None = None
    object: int | None = None  # position among the image's objects as read
    boxes: tuple[tuple[float, ...], ...] = ()  # xyxy pixels, to be drawn
    other: Path | None = None  # a second image, of a pair


@dataclass(frozen=True)
class Found:
    """All places of one fault; they are described when they are asked for, since there may be a million."""

    fault: str
    count: int
    item: Callable[[int], Finding] = field(repr=False)
    severity: str = ""  # the fault's own if empty

    def __post_init__(self) -> None:
        if not self.severity:
            object.__setattr__(self, "severity", FAULTS[self.fault].severity)

    def items(self, most: int | None = None) -> Iterator[Finding]:
        """The first ``most`` places, or all."""
        return (self.item(number) for number in range(self.count if most is None else min(most, self.count)))


def found(fault: str, findings: Iterable[Finding], severity: str = "") -> Iterator[Found]:
    """One :class:`Found` for findings that are there already; none where there are none."""
    listed = tuple(findings)
    if listed:
        yield Found(fault, len(listed), listed.__getitem__, severity)


class Split(NamedTuple):
    """A part of the data set as it was read."""

    role: str  # train or val
    source: Source

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def of_boxes(self) -> DetectionSource:
        """The source, in checks of boxes: a check is given sources of its own kind alone."""
        return cast(DetectionSource, self.source)

    @property
    def of_classes(self) -> ClassificationSource:
        """The source, in checks of images with one class each."""
        return cast(ClassificationSource, self.source)


class Scope(NamedTuple):
    """What a check looks at: the splits that could be read, and the size of the network's input."""

    splits: tuple[Split, ...]
    size: tuple[int, int] = (320, 320)  # (H, W)

    def of(self, role: str) -> Split | None:
        """The split of that role."""
        return next((split for split in self.splits if split.role == role), None)


Check = Callable[[Scope], Iterator[Found]]


class Checks(NamedTuple):
    """The checks of a kind of task: those that need no pixels, which precede each training, and the further ones."""

    quick: tuple[Check, ...] = ()
    thorough: tuple[Check, ...] = ()
    labelled_images: bool = False  # whether each image has one class


def ordered(all_found: Iterable[Found]) -> list[Found]:
    """The gravest first, then in the order of FAULTS."""
    places = {name: place for place, name in enumerate(FAULTS)}
    return sorted(all_found, key=lambda one: (SEVERITIES.index(one.severity), places[one.fault]))


def merged(all_found: Sequence[Found]) -> list[Found]:
    """What several checks or splits found of one fault and severity as one, ordered."""
    groups: dict[tuple[str, str], list[Found]] = {}
    for one in all_found:
        groups.setdefault((one.fault, one.severity), []).append(one)
    return ordered(_joined(group) for group in groups.values())


def _joined(group: list[Found]) -> Found:
    if len(group) == 1:
        return group[0]

    def item(number: int) -> Finding:
        for one in group:
            if number < one.count:
                return one.item(number)
            number -= one.count
        raise IndexError(number)

    return Found(group[0].fault, sum(one.count for one in group), item, group[0].severity)


def worst(all_found: Iterable[Found]) -> str | None:
    """The gravest severity; None where nothing was found."""
    return min((one.severity for one in all_found), key=SEVERITIES.index, default=None)


def to_dict(one: Found) -> dict[str, Any]:
    """For doctor.json."""
    findings = [
        {
            "sentence": str(item.sentence),
            "split": item.split,
            "file": None if item.file is None else item.file.as_posix(),
            "image_id": item.image_id,
            "object": item.object,
            "boxes": [[round(float(value), 2) for value in box] for box in item.boxes],
            "other": None if item.other is None else item.other.as_posix(),
        }
        for item in one.items()
    ]
    return {"fault": one.fault, "severity": one.severity, "count": one.count, "findings": findings}
