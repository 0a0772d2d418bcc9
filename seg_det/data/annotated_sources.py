"""From what annotation tools' files hold to the records of a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from seg_det.data.annotated import AnnotatedImage, Reading, Request, Shape, Tool
from seg_det.data.annotated_files import ImageFinder, Part, Tree, part_of, read_tree
from seg_det.data.coco import MALFORMED
from seg_det.data.coco_seg import DrawnMask, Outline, Region
from seg_det.data.doubts import require_pixels
from seg_det.data.geometry import Bitmap, Geometry, placed
from seg_det.data.images import is_turned, verify_image
from seg_det.data.masks import UNKNOWN, segmentation_source
from seg_det.data.problems import FAULTS, MissingPart, Problems, box_areas, check_boxes
from seg_det.data.records import (
    DetectionSource,
    ImageFile,
    ObjectTable,
    SegmentationRecord,
    SegmentationSource,
    build_records,
)
from seg_det.data.voc import image_ids
from seg_det.errors import UserError
from seg_det.progress import progress_bar
from seg_det.types import Category

MOST_SHOWN = 20  # names of classes in a message


def read_annotated(tool: Tool, request: Request) -> DetectionSource | SegmentationSource:
    """Read one split of a tool's files. Raises UserError, as the readers say."""
    tree = read_tree(Path(request.root), tool.dataset)
    part = part_of(tree, request.split, by_name=not tool.one_image, subsets=tool.subsets)
    reading = Reading(Problems(request.on_bad), part.subset)
    if tool.one_image:
        _find_strangers(tree, part, tool, reading.problems)
    annotated = list(_parsed(tool, part.files, reading))
    names = _class_names(tool, tree, part, annotated, request.categories)
    _require_content(annotated, names, part, request, reading.problems)
    within = None if part.subset else request.split  # a subset's images may lie in folders of any name
    finder = ImageFinder(tree, within, guesses=tool.one_image)
    files, objects = _located(annotated, finder, reading.problems)
    _note_unused(tree, finder, part, files, reading.problems)
    reading.note_counts()
    name = " ".join(word for word in (tree.root.absolute().name, request.split) if word)
    table, shapes = _checked(objects, files, names, reading.problems)
    if request.kind == SegmentationSource.kind:
        return _masks(name, files, (table, shapes), [request.background, *names], reading.problems)
    sentences = reading.problems.settle()
    if not files:
        reason = sentences[0] if sentences else "it names none"
        raise UserError(f"{part.files[0]}: not one of the {len(annotated)} images of {name} can be used: {reason}")
    listed = tuple(Category(number, name) for number, name in enumerate(names, start=1))
    return DetectionSource(name, build_records(files, table), listed, sentences, reading.problems.lost)


def _require_content(
    annotated: Sequence[AnnotatedImage], names: Sequence[str], part: Part, request: Request, problems: Problems
) -> None:
    """Raise UserError for files without a class, MissingPart for a subset without an image."""
    if not names:
        reason = "; ".join(problems.settle()[:1]) or "label objects, or set dataset.categories=[NAME,...]"
        raise UserError(f"{part.files[0]} names no class: {reason}")
    if not annotated and part.subset:
        raise MissingPart(
            f"{part.files[0]} puts no image into the split {request.split}: put the images of each split into a folder of its "
            "name with a file of their own, or name the subsets with dataset.train_split and dataset.val_split.",
            f"no image of the subset {request.split}",
        )


def _parsed(tool: Tool, files: Sequence[Path], reading: Reading) -> Iterator[AnnotatedImage]:
    bar = progress_bar(files, desc=f"reading {files[0].parent}", unit="file", disable=len(files) < 2)
    for file in bar:
        try:
            yield from _images_in(file, tool, reading)
        except UserError as error:
            if not tool.one_image:
                raise
            reading.problems.add(str(error), lost="image")


def _images_in(file: Path, tool: Tool, reading: Reading) -> Iterator[AnnotatedImage]:
    try:
        yield from tool.parse(file, reading)
    except MALFORMED as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{file} is not built as {tool.dataset} builds its files ({reason}): export it again"
        ) from error


def _find_strangers(tree: Tree, part: Part, tool: Tool, problems: Problems) -> None:
    """Files beside the tool's that have the name of an image: they should be the tool's, and are broken or of another."""
    folders = {file.parent for file in part.files}
    images = {path.with_suffix("") for path in tree.images} if tree.others else set()
    for file in tree.others:
        if file.parent in folders and file.with_suffix("") in images:
            problems.add(f"{file} is no file of {tool.dataset}, or broken: save or export it again", lost="image")


def _class_names(
    tool: Tool, tree: Tree, part: Part, parsed: Sequence[AnnotatedImage], categories: Sequence[str] | None
) -> list[str]:
    """``categories``, else the declared names, else those of the shapes in all splits, sorted: train and val must agree."""
    if categories is not None:
        return _given(categories)
    if tool.declared and (listed := dict.fromkeys(name for file in tree.annotations for name in tool.declared(file))):
        return list(listed)
    found = _names_of(parsed) if part.subset is None else set()
    others = Reading(Problems("skip"))  # whose problems are told where their split is read
    for file in sorted(set(tree.annotations) - set(part.files if part.subset is None else ())):
        if tool.names is None or not tool.names(file) <= found:
            with suppress(UserError):
                found |= _names_of(_images_in(file, tool, others))
    return sorted(found)


def _given(categories: Sequence[str]) -> list[str]:
    names = [str(name).strip() for name in categories]
    if not names or not all(names) or len(set(names)) < len(names):
        raise UserError(f"dataset.categories must be names, each once and none empty, got {names}.")
    return names


def _names_of(images: Iterable[AnnotatedImage]) -> set[str]:
    return {shape.name for image in images for shape in image.shapes}


def _located(
    annotated: Sequence[AnnotatedImage], finder: ImageFinder, problems: Problems
) -> tuple[list[ImageFile], list[tuple[int, Shape]]]:
    """The images whose files are there, in the order of the annotations, each once, and the shapes on them."""
    found: dict[Path, AnnotatedImage] = {}
    sizes: list[tuple[int, int]] = []
    objects: list[tuple[int, Shape]] = []
    for image in progress_bar(annotated, desc=f"reading {finder.root}", unit="image"):
        try:
            path = finder.find(image.written, image.file.parent)
            if path in found:
                raise UserError(f"the image {path} is annotated twice, in {found[path].where} too: keep one of them")
            size = _true_size(path, image.size)
        except UserError as error:
            problems.add(f"{image.where}: {error}", lost="image")
            continue
        objects += [(len(sizes), shape) for shape in image.shapes]
        found[path] = image
        sizes.append(size)
    keys = [path.stem for path in found]
    if len(set(keys)) < len(keys):  # one stem in several folders
        keys = [str(path) for path in found]
    ids = image_ids(keys)
    files = [ImageFile(path, ids[key], size) for path, key, size in zip(found, keys, sizes, strict=True)]
    return files, objects


def _true_size(path: Path, declared: tuple[int, int] | None) -> tuple[int, int]:
    """(H, W) of the file, upright. Raises UserError for a declared size that is another one."""
    size = verify_image(path)
    if declared is None or declared == size:
        return size
    says = f"gives the size {declared[1]} x {declared[0]}"
    if declared == size[::-1] and is_turned(path):
        raise UserError(
            f"it {says} that {path} has before its EXIF rotation, so its objects may be unrotated too: save the image upright, "
            "and annotate or export it again"
        )
    raise UserError(
        f"it {says}, but {path} has {size[1]} x {size[0]} pixels: put the annotated image there, or export anew"
    )


def _note_unused(tree: Tree, finder: ImageFinder, part: Part, files: Sequence[ImageFile], problems: Problems) -> None:
    """Say how many images in the split's own folders no annotation names: they are taken neither for empty nor for labelled."""
    if finder.respelled:
        written, path = finder.respelled[0]
        problems.note(f"images were found under another name: {len(finder.respelled):,} (first: {written} as {path})")
    if not part.own_folder:
        return
    folders = {file.parent for file in part.files} | {file.path.parent for file in files}
    used = {file.path for file in files}
    unused = [path for path in finder.images if path.parent in folders and path not in used]
    if unused:
        problems.note(f"images beside the annotated ones are not read: {len(unused):,} (first: {unused[0]})")


def _checked(
    objects: Sequence[tuple[int, Shape]], files: Sequence[ImageFile], names: Sequence[str], problems: Problems
) -> tuple[ObjectTable, list[Shape]]:
    """The objects whose class is known and whose box is one, as a table and as they were drawn.

    Raises UserError where all boxes look like shares of their images.
    """
    labels = _labels([shape for _, shape in objects], names)
    image = np.array([position for position, _ in objects], np.int64)
    boxes = np.array([shape.geometry.box for _, shape in objects], np.float64).reshape(-1, 4)
    sizes = np.array([file.size for file in files], np.int64).reshape(-1, 2)[image]
    if objects:
        require_pixels(boxes, sizes, f"the boxes of all {len(objects)} objects (the first: {objects[0][1].where})")
    checked = check_boxes(boxes, sizes)
    keep = checked.usable & (labels >= 0)
    for row in np.flatnonzero((checked.faults > 0) | (labels < 0)).tolist():
        shape, fault = objects[row][1], FAULTS[checked.faults[row]]
        sentence = _of_no_class(shape, names) if labels[row] < 0 else _of_box(shape, fault)
        problems.add(sentence, lost="" if keep[row] else "object")
    difficult = np.array([shape.difficult for _, shape in objects], bool)
    crowd = np.zeros(len(objects), bool)
    table = ObjectTable(image, checked.boxes, labels, crowd, difficult, box_areas(checked.boxes))
    return ObjectTable(*(column[keep] for column in table)), [objects[row][1] for row in np.flatnonzero(keep).tolist()]


def _labels(shapes: Sequence[Shape], names: Sequence[str]) -> np.ndarray:
    """The positions of the shapes' classes in ``names``, -1 for one that is not in it: i64 [N]."""
    index = {name: label for label, name in enumerate(names)}
    return np.array([index.get(shape.name, -1) for shape in shapes], np.int64)


def _of_no_class(shape: Shape, names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "")
    return f"{shape.where}: its class is not in the class list ({shown})"


def _of_box(shape: Shape, fault: str) -> str:
    box = ", ".join(f"{value:g}" for value in shape.geometry.box)
    return f"{shape.where}: its box [x1, y1, x2, y2] = [{box}] {fault}"


def _masks(
    name: str,
    files: Sequence[ImageFile],
    objects: tuple[ObjectTable, Sequence[Shape]],
    names: Sequence[str],
    problems: Problems,
) -> SegmentationSource:
    """``names`` begin with the background."""
    if names[0] in names[1:]:
        raise UserError(f"there is a class {names[0]!r} of its own: set dataset.background to another name")
    if len(names) > UNKNOWN:
        raise UserError(f"there are {len(names) - 1} classes, but masks tell {UNKNOWN - 1} apart at most")
    regions: list[list[Region]] = [[] for _ in files]
    table, shapes = objects
    for shape, image, label in zip(shapes, table.image.tolist(), table.labels.tolist(), strict=True):
        if shape.geometry.parts:
            regions[image].append(Region(label + 1, _outline(shape.geometry, files[image].size)))
        else:
            problems.add(f"{shape.where} is a box, and masks need polygons or masks: draw its outline", lost="object")
    records = [
        SegmentationRecord(file.path, DrawnMask(file.size, tuple(some), 0), file.image_id, file.size)
        for file, some in zip(files, regions, strict=True)
    ]
    return segmentation_source(name, records, [Category(i, name) for i, name in enumerate(names)], problems)


def _outline(geometry: Geometry, size: tuple[int, int]) -> Outline:
    """Polygons as they are; with a bitmap among them COCO's run lengths of all."""
    if any(isinstance(part, Bitmap) for part in geometry.parts):
        return rle.merge([placed(part, size) for part in geometry.parts])
    return tuple(np.array(part, np.float64) for part in geometry.parts)
