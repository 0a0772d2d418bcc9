"""YOLO's text labels to records: boxes, or polygons. Format: https://docs.ultralytics.com/datasets/detect/"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg_det.data.coco_seg import DrawnMask, Region
from seg_det.data.doubts import note_repeats
from seg_det.data.images import verify_image
from seg_det.data.masks import segmentation_source
from seg_det.data.problems import FAULTS, Problems, box_areas, check_boxes
from seg_det.data.records import (
    DetectionSource,
    ImageFile,
    ObjectTable,
    SegmentationRecord,
    SegmentationSource,
    build_records,
)
from seg_det.data.voc import image_ids
from seg_det.data.yolo_files import LABELS, Description, images_of, label_file, read_description
from seg_det.data.yolo_labels import LabelFiles, shared_labels
from seg_det.data.yolo_lines import CORNERS, Line, LineReader
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.registry import READERS
from seg_det.types import Category


@READERS.register
def read_yolo(
    *,
    root: str | Path,
    split: str,
    kind: str = "detection",
    polygons: bool = False,
    labels: str = LABELS,
    background: str = "background",
    on_bad: str = "error",
) -> DetectionSource | SegmentationSource:
    """Read one split in YOLO's layout: data.yaml, or images/SPLIT, labels/SPLIT and classes.txt below ``root``.

    Boxes, those around polygons too; or if ``kind`` is "segmentation" masks drawn from polygons, smaller ones over larger
    ones, on the class 0 ``background``. Category ids are the numbers in the files, in masks one more. Images without a label
    file have no objects; ``labels`` names the folder of those files. Lines of four corners throughout are taken for oriented
    boxes and refused, unless ``polygons``. What is bad is raised (``on_bad="error"``) or left out and listed (``"skip"``).
    Raises UserError.
    """
    problems, description = Problems(on_bad), read_description(Path(root))
    paths = images_of(description, split, problems)
    files = _read_images(paths, labels, problems)
    lines = _read_lines(files, labels, description.names, problems)
    _require_labels(paths, lines, labels, description)
    if not polygons:
        _refuse_oriented(lines)
    name = f"{_root(description).name} {split}".strip()
    if kind == SegmentationSource.kind:
        return _masks(name, files, lines, description.names, background, problems)
    table = _objects(lines, files, problems)
    sentences = problems.settle()
    if not files:
        raise UserError(
            f"{description.file}: not one of the {len(paths)} images of {split} can be used: {sentences[0]}"
        )
    listed = tuple(Category(number, name) for number, name in enumerate(description.names))
    return DetectionSource(name, build_records(files, table), listed, sentences, problems.lost)


def _root(description: Description) -> Path:
    folder = description.file.parent.absolute()
    return folder.parent if folder.name == "labels" else folder


def _read_images(paths: Sequence[Path], labels: str, problems: Problems) -> list[ImageFile]:
    keys = [path.stem for path in paths]
    if len(set(keys)) < len(keys):  # one stem in several folders
        keys = [str(path) for path in paths]
    ids = image_ids(keys)
    shared, files = shared_labels(paths, labels), []
    shown = progress_bar(paths, f"reading {paths[0].parent}", unit="image")
    for path, key in zip(shown, keys, strict=True):
        if path in shared:
            same = f"{path} and {shared[path].name} have the same label file {label_file(path, labels)}"
            problems.add(f"{same}, so which of them it is about cannot be known: remove or rename one", lost="image")
            continue
        try:
            files.append(ImageFile(path, ids[key], verify_image(path)))
        except UserError as error:
            problems.add(str(error), lost="image")
    return files


def _read_lines(files: Sequence[ImageFile], folder: str, names: Sequence[str], problems: Problems) -> list[Line]:
    labels, reader = LabelFiles((file.path for file in files), folder), LineReader(names, problems)
    lines = []
    for position, file in enumerate(files):
        if (path := labels.of_image[file.path]) is not None:
            lines += reader.read(position, path)
    reader.note()
    labels.note(problems)
    return lines


def _require_labels(paths: Sequence[Path], lines: Sequence[Line], labels: str, description: Description) -> None:
    """Raise UserError where no image has a label file: then they lie elsewhere."""
    if not lines and not any(label_file(path, labels).exists() for path in paths):
        expected = label_file(paths[0], labels)
        raise UserError(f"not one image of {description.file} has labels: those of {paths[0]} would be {expected}.")


def _refuse_oriented(lines: Sequence[Line]) -> None:
    if lines and all(len(line.values) == CORNERS - 1 for line in lines):
        raise UserError(
            f"{lines[0].describe()} and all others have four corners, as oriented boxes have, which are not read: export boxes, "
            "or set dataset.polygons=true if they are polygons."
        )


def _corners(line: Line) -> tuple[float, float, float, float]:
    """xyxy as shares of the image."""
    if line.is_box:
        x, y, width, height = line.values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    xs, ys = line.values[0::2], line.values[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _objects(lines: Sequence[Line], files: Sequence[ImageFile], problems: Problems) -> ObjectTable:
    image = np.array([line.image for line in lines], np.int64)
    sizes = np.array([file.size for file in files]).reshape(-1, 2)[image]
    shares = np.array([_corners(line) for line in lines], np.float64).reshape(-1, 4)
    checked = check_boxes(shares * np.tile(sizes[:, ::-1], 2), sizes)
    for row in np.flatnonzero(checked.faults).tolist():
        box = " ".join(f"{value:g}" for value in lines[row].values[:8])
        sentence = f"{lines[row].describe()}: its box {box} {FAULTS[checked.faults[row]]}"
        problems.add(sentence, lost="" if checked.usable[row] else "object")
    labels = np.array([line.label for line in lines], np.int64)
    no = np.zeros(len(lines), bool)
    table = ObjectTable(image, checked.boxes, labels, no, no, box_areas(checked.boxes))
    table, own = ObjectTable(*(column[checked.usable] for column in table)), np.flatnonzero(checked.usable)
    note_repeats(table.image, table.labels, table.boxes, lambda row: lines[own[row]].describe(), problems)
    return table


def _masks(
    name: str,
    files: Sequence[ImageFile],
    lines: Sequence[Line],
    names: Sequence[str],
    background: str,
    problems: Problems,
) -> SegmentationSource:
    if background in names:
        raise UserError(f"there is a class {background!r} of its own: set dataset.background to another name")
    regions: list[list[Region]] = [[] for _ in files]
    for line in lines:
        if line.is_box:
            problems.add(
                f"{line.describe()} is a box, and masks need polygons: class and the x y of each corner", lost="object"
            )
            continue
        height, width = files[line.image].size
        polygon = np.array(line.values).reshape(-1, 2) * (width, height)
        regions[line.image].append(Region(line.label + 1, (polygon.ravel(),)))
    records = [
        SegmentationRecord(file.path, DrawnMask(file.size, tuple(some), 0), file.image_id, file.size)
        for file, some in zip(files, regions, strict=True)
    ]
    categories = [Category(number, name) for number, name in enumerate([background, *names])]
    return segmentation_source(name, records, categories, problems)
