"""Source for apps, ready to be copied next to the exported file: filled in from its card by the template of its target."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from seg_det.export.base import Target
from seg_det.types import ModelCard


def write(target: Target, card: ModelCard, export: dict[str, Any], path: Path) -> list[str]:
    """Write the source that runs the exported file ``path`` in an app, and return its name.

    Nothing where its target has no template, or with pipeline=raw, whose outputs are for programs of one's own.
    """
    if target.snippet is None or export["pipeline"] != "normalised":
        return []
    language = target.snippet.rsplit(".", 1)[-1]
    file = path.with_name(f"{class_name(path.stem)}.{language}")
    file.write_text(source(target, card, export, path.name), encoding="utf-8")
    return [file.name]


def source(target: Target, card: ModelCard, export: dict[str, Any], file: str) -> str:
    """The text of it, for an export of the name ``file``."""
    if target.snippet is None:
        raise ValueError(f"expected a target with a snippet, got {target.name}")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("seg_det.export", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = partial(literal, language=target.snippet.rsplit(".", 1)[-1])
    template = environment.get_template(f"{target.snippet}.j2")
    stem = Path(file).stem
    return template.render(
        card=card, export=export, ios=getattr(target, "ios", None), file=file, stem=stem, name=class_name(stem)
    )


def class_name(stem: str) -> str:
    """A class name of both languages: "ssdlite_v2_shapes_fp32" -> "SsdliteV2ShapesFp32"."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in stem).split()
    name = "".join(word[0].upper() + word[1:] for word in words)
    return name if name[:1].isalpha() else f"Model{name}"


def literal(text: str, language: str) -> str:
    """``text`` as a literal of "kt" or "swift": quoted, and escaped where it would end the string or be an expression."""
    special = '\\"$' if language == "kt" else '\\"'
    code = "\\u{:04x}" if language == "kt" else "\\u{{{:x}}}"
    letters = (f"\\{one}" if one in special else one if one.isprintable() else code.format(ord(one)) for one in text)
    return f'"{"".join(letters)}"'
