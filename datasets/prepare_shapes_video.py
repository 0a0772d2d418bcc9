"""Generate videos of moving shapes with known tracks into ``datasets/shapes_video``: ``python datasets/prepare_shapes_video.py``.

Each video is an MP4 file (codec mp4v) with its truth beside it in MOT's text format: ``000.mp4`` and ``000.txt``, scored with
``python -m seg_det.metrics.tracking 000.txt tracks.txt``. Categories are those of ``dataset=shapes``, from 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from seg_det.data.shapes_scene import HEIGHT, WIDTH
from seg_det.data.shapes_video import VideoFrame, shapes_video
from seg_det.errors import UserError
from seg_det.metrics.tracking import MotRow, mot_rows, write_mot

DATASETS = Path("datasets")  # below the working directory, where conf/dataset looks
CODEC = "mp4v"


def write_video(path: Path, frames: Iterator[VideoFrame], *, frame_rate: float, total: int) -> None:
    """Write the frames to ``path`` and their truth beside it, with the suffix ``.txt``; the video appears once it is whole.

    Raises UserError if OpenCV cannot write here, or a file is there already.
    """
    truth, part = path.with_suffix(".txt"), path.with_name(f".{path.stem}.part{path.suffix}")
    for target in (path, truth):
        if target.exists():
            raise UserError(f"{target} exists: delete it, or choose another --root.")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter_fourcc(*CODEC), frame_rate, (WIDTH, HEIGHT))
    try:
        if not writer.isOpened():
            raise UserError(
                f"{path} cannot be written with codec {CODEC}: choose another --root, or check the folder's rights."
            )
        bar = tqdm(frames, desc=f"writing {path.name}", total=total, unit="frame", delay=2)
        write_mot(truth, _written(writer, bar))
        writer.release()
        part.replace(path)
    finally:
        writer.release()
        with suppress(OSError):
            part.unlink()


def _written(writer: cv2.VideoWriter, frames: Iterator[VideoFrame]) -> Iterator[MotRow]:
    """Write the pictures, and yield the rows of the truth."""
    for number, frame in enumerate(frames, start=1):
        writer.write(frame.image[:, :, ::-1])
        rows = mot_rows(number, frame.boxes, frame.ids, np.ones(len(frame.ids)), frame.labels + 1)
        for row, visibility in zip(rows, frame.visibility.tolist(), strict=True):
            yield row._replace(visibility=visibility)


def main(argv: Sequence[str] | None = None) -> int:
    """Generate the videos; returns the exit status (1: a UserError, printed)."""
    parser = argparse.ArgumentParser(
        description="Generate videos of moving shapes, with their tracks in MOT's text format."
    )
    parser.add_argument(
        "--root", type=Path, default=DATASETS / "shapes_video", help="where they are written (%(default)s)"
    )
    parser.add_argument("--videos", type=int, default=3, help="how many (%(default)s)")
    parser.add_argument("--frames", type=int, default=300, help="of each (%(default)s)")
    parser.add_argument("--objects", type=int, default=6, help="at a time, at most (%(default)s)")
    parser.add_argument("--frame-rate", type=float, default=30.0, help="frames a second (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first one; the next has the next (%(default)s)")
    args = parser.parse_args(argv)
    try:
        if not 0 < args.frame_rate <= 1000:
            raise UserError(f"--frame-rate must be greater than 0 and at most 1000, got {args.frame_rate}.")
        if args.videos < 1:
            raise UserError(f"--videos must be at least 1, got {args.videos}.")
        for number in range(args.videos):
            frames = shapes_video(args.seed + number, frames=args.frames, objects=args.objects)
            path = args.root / f"{number:03d}.mp4"
            write_video(path, frames, frame_rate=args.frame_rate, total=args.frames)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.videos} videos of shapes with their tracks are ready: {args.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
