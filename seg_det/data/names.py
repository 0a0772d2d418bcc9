"""Names of classes as tools write them: with blanks around them, composed or decomposed letters, control characters."""

from __future__ import annotations

import unicodedata

from seg_det.errors import UserError

INVISIBLE = "\ufeff\u200b"  # a byte order mark within a file, and a blank of no width
LINE_ENDS = ("Cc", "Zl", "Zp")  # categories of Unicode: control characters, separators of lines and of paragraphs


def clean_name(name: object, where: str) -> str:
    """A name without blanks and line ends around it, its letters composed; ``where`` begins the messages.

    Raises UserError for what is no text, for an empty name and for one with a control character inside.
    """
    if not isinstance(name, str | int | float) or isinstance(name, bool):
        raise UserError(f"{where} has the name {name!r}, which is no text: put it in quotes, or give the class a name")
    text = str(name).strip().strip(INVISIBLE).strip()
    if not text:
        raise UserError(f"{where} has an empty name: give the class a name")
    if text.isascii() and text.isprintable():
        return text
    if any(unicodedata.category(letter) in LINE_ENDS for letter in text):
        raise UserError(f"{where} has the name {text!r}, with a line end or control character inside: correct the name")
    return unicodedata.normalize("NFC", text)
