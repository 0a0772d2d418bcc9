"""The label files of YOLO's images: which belongs to which, and which belong to none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from seg_det.data.doubts import counted
from seg_det.data.problems import Problems
from seg_det.data.spelling import Spellings
from seg_det.data.yolo_files import label_file

OTHER_TEXTS = {  # names of text files that tools leave beside labels
    "classes", "labels", "names", "notes", "obj", "predefined_classes", "readme", "test", "train", "val", "valid",
}  # fmt: skip


class LabelFiles:
    """The label files of a split, whose folders are listed once each."""

    def __init__(self, images: Iterable[Path], folder: str) -> None:
        self._name = folder
        self._folders: dict[Path, Spellings] = {}
        self._images: dict[Path, Path] = {}  # the folder of the images of each folder of labels
        self.of_image = {image: self._find(image) for image in images}

    def note(self, problems: Problems) -> None:
        """Say which labels were found by another spelling, and which have no image."""
        for folder, spellings in self._folders.items():
            spellings.note(str(folder), len(self.of_image), problems)
            used = {path.stem for path in self.of_image.values() if path is not None and path.parent == folder}
            stems = {Path(name).stem for name in spellings.names() if name.lower().endswith(".txt")}
            if orphans := sorted(stem for stem in stems - used if stem.lower() not in OTHER_TEXTS):
                there = {
                    Path(name).stem for name in Spellings(self._images[folder]).names() if not name.endswith(".txt")
                }
                orphans = [stem for stem in orphans if stem not in there]
            if orphans:
                problems.note(
                    f"{folder} holds {counted(len(orphans), 'label file', 'label files')} without an image in "
                    f"{self._images[folder]}, not read (the first: {orphans[0]}.txt)"
                )

    def _find(self, image: Path) -> Path | None:
        path = label_file(image, self._name)
        if path.parent not in self._folders:
            self._folders[path.parent] = Spellings(path.parent)
            self._images[path.parent] = image.parent
        return self._folders[path.parent].find_here(path.name)


def shared_labels(images: Sequence[Path], labels: str) -> dict[Path, Path]:
    """Images whose label file, which exists, is that of another image too: t1.jpg and t1.png, each with the other."""
    if len({image.stem for image in images}) == len(images):  # the usual case, told without looking at paths
        return {}
    groups: dict[Path, list[Path]] = defaultdict(list)
    for image in images:
        groups[label_file(image, labels)].append(image)
    several = [group for path, group in groups.items() if len(group) > 1 and path.exists()]
    return {image: group[image == group[0]] for group in several for image in group}
