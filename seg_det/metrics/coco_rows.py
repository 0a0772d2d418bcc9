"""The rows of a COCO result file, checked: other tools wrote them, or a user's script."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from seg_det.errors import UserError
from seg_det.metrics.arrays import check_finite, some


def own_rows(rows: list[dict[str, Any]], dataset: dict[str, Any], shape_key: str) -> list[dict[str, Any]]:
    """Checked copies of the result rows that hold only what the evaluation reads.

    ``dataset`` is the COCO ground truth; ``shape_key`` the key of the shapes, "bbox" or "segmentation". Raises UserError for
    rows of another form, numbers that are not finite, and images and categories that the ground truth has not.
    """
    keys = ("image_id", "category_id", shape_key, "score")
    if not isinstance(rows, list):
        raise UserError(f"the results are no list of rows but a {type(rows).__name__}; give a COCO result file")
    for number, row in enumerate(rows):
        _check_form(number, row, keys)
    for key, table in (("image_id", "images"), ("category_id", "categories")):
        unknown = {row[key] for row in rows} - {entry["id"] for entry in dataset[table]}
        if unknown:
            raise UserError(f"the results name {table} that the ground truth has not: {key} {some(unknown)}")
    numbers = [[row["score"], *(row["bbox"] if shape_key == "bbox" else ())] for row in rows]
    width = 5 if shape_key == "bbox" else 1
    check_finite(np.array([row["image_id"] for row in rows]), np.array(numbers, np.float64).reshape(-1, width))
    return [{key: row[key] for key in keys} for row in rows]


def _check_form(number: int, row: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(row, dict):
        raise UserError(f"result row {number} is {row!r}; every row needs {', '.join(keys)}")
    if missing := [key for key in keys if key not in row]:
        raise UserError(f"result row {number} has no {', '.join(missing)}; every row needs {', '.join(keys)}")
    for key in ("image_id", "category_id"):
        if not isinstance(row[key], Integral):
            raise UserError(f"result row {number} has the {key} {row[key]!r}; it needs a whole number")
    if not isinstance(row["score"], Real):
        raise UserError(f"result row {number} has the score {row['score']!r}; it needs a number")
    if "bbox" in keys and not _is_box(row["bbox"]):
        raise UserError(f"result row {number} has the bbox {row['bbox']}; it needs x, y, width, height")


def _is_box(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and len(value) == 4 and all(isinstance(x, Real) for x in value)
