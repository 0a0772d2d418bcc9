"""Which files of an annotation tool belong to a split, and which image file a tool's name for an image means."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from seg_det.data.images import IMAGE_SUFFIXES
from seg_det.data.problems import MissingPart
from seg_det.data.recognise_tools import SPLITS, SUFFIXES, split_of, tool_of
from seg_det.errors import UserError

SUFFIXES_READ = (*IMAGE_SUFFIXES, ".tif", ".tiff", ".gif")
MOST_SHOWN = 4  # files in a message


class Tree(NamedTuple):
    """The files below a root, sorted; hidden ones are passed over."""

    root: Path
    annotations: tuple[Path, ...]  # of one tool
    images: tuple[Path, ...]
    others: tuple[Path, ...]  # that the tool might have written, by their suffixes, and did not


def read_tree(root: Path, dataset: str) -> Tree:
    """List the files below ``root``, those of the tool ``dataset`` and images. Raises UserError if the tool wrote none.

    A root that is a file means that file alone, with the images below its folder.
    """
    if not root.exists():
        raise UserError(f"dataset.root={root} does not exist: correct the path.")
    folder = root.parent if root.is_file() else root
    paths = list(_files_below(folder))
    annotations = [root] if root.is_file() else [path for path in paths if path.name.lower().endswith(SUFFIXES)]
    own = [path for path in annotations if (sign := tool_of(path)) is not None and sign.dataset == dataset]
    if not own:
        there = ", ".join(path.name for path in annotations[:MOST_SHOWN]) or "no file with annotations"
        raise UserError(f"{root} holds no file of {dataset} ({there}): name another data set with dataset=.")
    images = tuple(path for path in paths if path.name.lower().endswith(SUFFIXES_READ))
    return Tree(folder, tuple(own), images, tuple(sorted(set(annotations) - set(own))))


def _files_below(folder: Path) -> Iterator[Path]:
    """The files in a folder and its sub-folders, sorted, without hidden ones; links are followed unless they lead upwards."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _leads_up(place, name))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def _leads_up(place: str, name: str) -> bool:
    path = Path(place) / name
    return path.is_symlink() and f"{os.path.realpath(place)}/".startswith(f"{os.path.realpath(path)}/")


class Part(NamedTuple):
    """What belongs to a split."""

    files: tuple[Path, ...]
    subset: str | None  # of the images in these files that belong to the split; None: all do
    own_folder: bool  # whether a folder of the split's name holds it


def part_of(tree: Tree, split: str | None, *, by_name: bool, subsets: bool) -> Part:
    """The files of a split: in a folder of its name, or with its name in theirs, or with ``subsets`` all, to be filtered.

    None stands for all files. Raises UserError where there is nothing for the split.
    """
    if split is None:
        return Part(tree.annotations, None, True)
    wanted = next((key for key, names in SPLITS.items() if split.lower() in names), split)
    if in_folders := tuple(path for path in tree.annotations if _in_folder(path, tree.root, split, wanted)):
        return Part(in_folders, None, True)
    if named := tuple(path for path in tree.annotations if by_name and split_of(path, tree.root) == wanted):
        return Part(named, None, False)
    if subsets and not any(split_of(path, tree.root) for path in tree.annotations):
        return Part(tree.annotations, wanted, False)
    raise _without(split, wanted, tree)


def _without(split: str, wanted: str, tree: Tree) -> MissingPart:
    names = " nor ".join(f"{name}/" for name in SPLITS.get(wanted, (split,)))
    shown = ", ".join(str(path.relative_to(tree.root)) for path in tree.annotations[:MOST_SHOWN])
    more = ", ..." if len(tree.annotations) > MOST_SHOWN else ""
    return MissingPart(
        f"{tree.root} has no folder {names} with annotations for the split {split} (it has {shown}{more}): put the split's files "
        "into a folder of that name, or name the folders with dataset.train_split and dataset.val_split.",
        f"no folder {names}",
    )


def _in_folder(path: Path, root: Path, split: str, wanted: str) -> bool:
    folders = path.relative_to(root).parts[:-1]
    return split in folders or split_of(path, root, by_name=False) == wanted


class ImageFinder:
    """Finds image files by the names that tools write: paths of other machines, other separators and other cases."""

    def __init__(self, tree: Tree, split: str | None, *, guesses: bool = False) -> None:
        """``guesses`` says that all names but the first are no more than likely, so that it is told where one is taken."""
        self.root = tree.root
        self._guesses = guesses
        others = _of_other_splits(split)
        self.images = tuple(path for path in tree.images if not _parts(path, tree.root) & others)
        self._known = {os.path.normpath(path): path for path in self.images}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.images:
            self._by_name[_key(path.name)].append(path)
        self.respelled: list[tuple[str, Path]] = []  # as written, and what was taken

    def find(self, written: Sequence[str], beside: Path) -> Path:
        """The file that the first possible of ``written`` means, in an annotation file of the folder ``beside``.

        A path that leads to a file from there, or from the root, counts first, then the name alone where it is the only one, or
        where more of its folders agree than of any other. Raises UserError that says what there is.
        """
        path = self._found([spelling for name in written for spelling in _spellings(name)], beside)
        first = written[0].replace("\\", "/").rpartition("/")[2]
        if self._guesses and path.name not in (first, unquote(first)):
            self.respelled.append((first, path))
        return path

    def _found(self, spellings: Sequence[str], beside: Path) -> Path:
        for spelling in spellings:
            for folder in (beside, self.root):
                if (path := self._known.get(os.path.normpath(f"{folder}/{spelling}"))) is not None:
                    return path
        for spelling in spellings:
            if found := self._by_name.get(_key(spelling.rpartition("/")[2])):
                return self._chosen(spelling, found, beside)
        similar = self._similar(spellings[0]) or ": put the images there"
        raise UserError(f"there is no image {spellings[0]} below {self.root}{similar}")

    def _chosen(self, spelling: str, found: list[Path], beside: Path) -> Path:
        if len(found) == 1 and found[0].name == spelling.rpartition("/")[2]:
            return found[0]
        ranks = [(_rank(path, Path(spelling), beside), path) for path in found]
        best = max(rank for rank, _ in ranks)
        first, *others = [path for rank, path in ranks if rank == best]
        if others := [path for path in others if not path.samefile(first)]:
            raise UserError(f"the image {spelling} may be {first} or {others[0]}: give one of them another name")
        if not self._guesses and first.name != Path(spelling).name:
            self.respelled.append((spelling, first))
        return first

    def _similar(self, spelling: str) -> str:
        stem = _key(Path(spelling).stem)
        close = next((path for path in self.images if _key(path.stem) == stem), None)
        return f", only {close}" if close else ""


def _of_other_splits(split: str | None) -> set[str]:
    """Names of the folders in which no image of ``split`` lies; none for a split of another name than the usual ones."""
    if split not in {name for names in SPLITS.values() for name in names}:
        return set()
    return {name for names in SPLITS.values() for name in names if split not in names}


def _parts(path: Path, root: Path) -> set[str]:
    return {part.lower() for part in path.relative_to(root).parts[:-1]}


def _key(name: str) -> str:
    """Of a name, whatever its case, and whether accents are letters of their own, as macOS writes them."""
    return unicodedata.normalize("NFC", name).casefold()


def _spellings(written: str) -> Iterable[str]:
    """A path with slashes, and the same without what URLs write instead of blanks and the like."""
    path = written.strip().replace("\\", "/")
    path = re.sub(r"^[A-Za-z]:/", "/", path)  # a Windows drive
    return dict.fromkeys((path, unquote(path)))


def _rank(path: Path, written: Path, beside: Path) -> tuple[int, bool, bool]:
    """How well a file fits: folders that agree, from the last on; in the folder of the annotations; the same case."""
    common = 0
    for one, other in zip(reversed(path.parts[:-1]), reversed(written.parts[:-1]), strict=False):
        if _key(one) != _key(other):
            break
        common += 1
    return common, beside in path.parents, path.name == written.name
