"""The program that runs an exported model without this package: numpy, Pillow and the runtime, nothing else.

:func:`source` puts it together from functions of :mod:`seg_det.predict.standalone` and its target's ``open_session``.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

from seg_det.export.base import Target
from seg_det.predict import standalone
from seg_det.predict.lookup import task_of
from seg_det.predict.task import Task
from seg_det.types import ModelCard

PROGRAM = '''"""Runs {file} on an image: writes a drawing and JSON beside the image. Needs: pip install {packages}

    python {program} photo.jpg [--output FOLDER] [--score 0.3]
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

{parts}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--output", type=Path, help="where to write; left out: beside the image")
    parser.add_argument("--score", type=float, default=0.3, help="objects below are left out of both")
    options = parser.parse_args()
    model = Path(__file__).resolve().parent / "{file}"
    about = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
    try:  # without formats Pillow would run the code in a PostScript file
        opened = Image.open(options.image, formats=["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
        image = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    except Exception as error:
        parser.error(f"{{options.image}} cannot be read ({{error}}): give a JPEG, PNG, BMP, WebP, TIFF or GIF file")
    found = {predict}(about, open_session(str(model))({input}), image.shape[:2])
    content, drawing = {show}(about, image, found, options.score)
    folder = options.output or options.image.parent
    folder.mkdir(parents=True, exist_ok=True)
    drawing.save(folder / f"{{options.image.stem}}_found.png")
    (folder / f"{{options.image.stem}}_found.json").write_text(json.dumps(content, indent=1))
    print(json.dumps(content))


if __name__ == "__main__":
    main()
'''


def source(target: type[Target] | Target, *, file: str, program: str, task: Task, pipeline: str, resize: str) -> str:
    """The program that runs the exported ``file``, which lies beside it under the name ``program``.

    ``resize`` is the card's rule, which the program follows where the file does not.
    """
    predict, show = task.programs[pipeline].__name__, task.show.__name__
    needed = set(_needed(predict)) | set(_needed(show))
    given = "image"
    if pipeline != "full":
        needed |= set(_needed(resize))
        given = f'{resize}(about["card"], image)'
    parts = [inspect.getsource(target.session).replace(" -> Session", "")]
    parts += [inspect.getsource(part) for name, part in vars(standalone).items() if name in needed]
    text = "\n\n".join(part.rstrip() + "\n" for part in parts).rstrip()
    packages = " ".join(("numpy", "pillow", *target.runs))
    return PROGRAM.format(
        parts=text, file=file, program=program, input=given, predict=predict, show=show, packages=packages
    )


def write(target: type[Target] | Target, card: ModelCard, path: Path, pipeline: str) -> str:
    """Write the program of the exported file at ``path`` beside it; returns the program's name."""
    program = f"{path.stem}_run.py"
    text = source(target, file=path.name, program=program, task=task_of(card), pipeline=pipeline, resize=card.resize)
    path.with_name(program).write_text(text, encoding="utf-8")
    return program


def _needed(name: str) -> Iterator[str]:
    """``name`` and the functions of :mod:`seg_det.predict.standalone` that it calls, directly or not."""
    yield name
    for called in _names(getattr(standalone, name).__code__):
        if called != name and inspect.isfunction(getattr(standalone, called, None)):
            yield from _needed(called)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
