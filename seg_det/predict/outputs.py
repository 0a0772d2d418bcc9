"""What prediction writes: rows of all results, label files of other tools, masks, drawings and videos.

Everything is on disk and valid after each frame, so that a stop loses nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from xml.sax.saxutils import escape

from PIL import Image

from seg_det.media.encoding import VideoWriter
from seg_det.media.frames import Frame, Video
from seg_det.predict.growing import Growing, cannot_write, write
from seg_det.predict.result import ClassificationResult, DetectionResult, Result, SegmentationResult
from seg_det.report.drawings import encode_jpeg
from seg_det.report.masks import MaskWriter
from seg_det.types import Category
from seg_det.values import as_cell

JPEG_QUALITY = 92
LONGEST_JPEG = 65_500  # pixels of a side
Written = TypeVar("Written", bound=Result, contravariant=True)


class Output(Protocol[Written]):
    """Something that is written of every frame with a result, of the tasks whose results have what it needs."""

    def write(self, frame: Frame, result: Written, image_id: int) -> None: ...
    def close(self) -> None: ...


class Rows:
    """``predictions.json``: rows as in a COCO result file, with the file's name and, of a video, the frame's number."""

    def __init__(self, folder: Path):
        self._file = Growing(folder / "predictions.json", b"[\n]")
        self._any = False

    def write(self, frame: Frame, result: Result, image_id: int) -> None:
        """Add the rows of a result."""
        place: dict[str, Any] = {"file_name": frame.file}
        place |= {} if frame.number is None else {"frame": frame.number}
        rows = [json.dumps({**row, **place}, allow_nan=False) for row in result.to_coco(image_id)]
        if rows:
            self._file.add(((",\n" if self._any else "\n") + ",\n".join(rows)).encode(), end=b"\n]")
            self._any = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvTable:
    """``predictions.csv``: a row for each object, or for each of the best classes of an image."""

    def __init__(self, folder: Path):
        self._file = Growing(folder / "predictions.csv", b"")
        self._any = False

    def write(self, frame: Frame, result: DetectionResult | ClassificationResult, image_id: int) -> None:
        """Add the rows of a result."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self._any:
            writer.writerow(("image_id", "file_name", "frame", *result.columns))
        rows = ((image_id, frame.file, frame.number or "", *row.values()) for row in result.table())
        writer.writerows([as_cell(value) for value in row] for row in rows)
        self._file.add(text.getvalue().encode())
        self._any = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class YoloLabels:
    """``labels/STEM.txt``, one a frame, and ``classes.txt``: YOLO's text format with a score at the end of each line."""

    def __init__(self, folder: Path, categories: Sequence[Category]):
        self._folder = folder / "labels"
        write(folder / "classes.txt", "".join(f"{category.name}\n" for category in categories).encode())

    def write(self, frame: Frame, result: DetectionResult, image_id: int) -> None:
        """Write the file of a result; one without objects is empty."""
        write(self._folder / f"{_stem(frame)}.txt", "".join(f"{line}\n" for line in result.to_yolo()).encode())

    def close(self) -> None:
        """Nothing is open."""


class VocLabels:
    """``annotations/STEM.xml``, one a frame: Pascal VOC's format, corners 1-based and inclusive, with scores."""

    def __init__(self, folder: Path):
        self._folder = folder / "annotations"

    def write(self, frame: Frame, result: DetectionResult, image_id: int) -> None:
        """Write the file of a result."""
        height, width = result.size
        objects = "".join(_voc_object(row) for row in result.table())
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        text = f"<annotation>\n<filename>{escape(_printable(frame.file))}</filename>\n{size}\n{objects}</annotation>\n"
        write(self._folder / f"{_stem(frame)}.xml", text.encode())

    def close(self) -> None:
        """Nothing is open."""


class MaskFiles:
    """``masks/STEM.png``, one a frame: class ids in the colours of the data set, 255 for none of the chosen classes."""

    def __init__(self, folder: Path, categories: Sequence[Category]):
        self._writer = MaskWriter(folder / "masks", categories, "palette", "format=png")

    def write(self, frame: Frame, result: SegmentationResult, image_id: int) -> None:
        """Write the file of a result."""
        try:
            self._writer.write(_stem(frame), result.mask)
        except OSError as error:
            raise cannot_write(self._writer.folder / f"{_stem(frame)}.png", error) from error

    def close(self) -> None:
        """Nothing is open."""


class Drawings:
    """``drawings/STEM.jpg`` of each image (PNG where it is too large for JPEG)."""

    def __init__(self, folder: Path):
        self._folder = folder / "drawings"

    def write(self, frame: Frame, result: Result, image_id: int) -> None:
        """Draw a result."""
        drawn = result.drawn(frame.image)
        path = self._folder / f"{_stem(frame)}.jpg"
        if max(drawn.shape[:2]) <= LONGEST_JPEG:
            write(path, encode_jpeg(drawn, JPEG_QUALITY))
        else:
            content = io.BytesIO()
            Image.fromarray(drawn).save(content, "PNG")
            write(path.with_suffix(".png"), content.getvalue())

    def close(self) -> None:
        """Nothing is open."""

    def notes(self) -> list[str]:
        """Nothing to say."""
        return []


class DrawnVideo:
    """``drawings/STEM.mp4``: the frames of a video with what was found on them, at its own rate."""

    def __init__(self, folder: Path, given: Video):
        self._folder, self._given = folder / "drawings", given
        self.video: VideoWriter | None = None

    def write(self, frame: Frame, result: Result, image_id: int) -> None:
        """Draw a result."""
        if self.video is None:  # now the rate of a stream is known
            self.video = VideoWriter(self._folder / f"{frame.stem}.mp4", self._given.rate)
        self.video.write(result.drawn(frame.image))

    def close(self) -> None:
        """Finish the video."""
        if self.video is not None:
            self.video.close()

    def notes(self) -> list[str]:
        """What the user should know of the video, in sentences."""
        if self.video is None:
            return []
        name, refitted = self.video.path.name, self.video.refitted
        fitted = [f"{refitted} frames of {name} had another size and were fitted to the first"] if refitted else []
        return [f"{name} was written as {self.video.codec}", *fitted]


FORMATS: dict[str, Callable[[Path, Sequence[Category]], Output[Any]]] = {
    "yolo": YoloLabels,
    "voc": lambda folder, categories: VocLabels(folder),
    "csv": lambda folder, categories: CsvTable(folder),
    "png": MaskFiles,
}


def _stem(frame: Frame) -> str:
    return frame.stem if frame.number is None else f"{frame.stem}/{frame.number:06d}"


def _printable(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _voc_object(row: dict[str, Any]) -> str:
    left, top = round(row["x1"]) + 1, round(row["y1"]) + 1
    corners = (left, top, max(left, round(row["x2"])), max(top, round(row["y2"])))  # at least a pixel
    names = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{name}>{value}</{name}>" for name, value in zip(names, corners, strict=True))
    name = escape(_printable(" ".join(str(row["class"]).split())))
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<score>{row['score']:.6g}</score><bndbox>{box}</bndbox></object>\n"
    )
