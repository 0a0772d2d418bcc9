"""Numbers, terminal tables, CSV files and whole writing."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from seg_det.report.tables import format_cell, format_number, format_table, write_csv, write_whole


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4337013, "4,337,013"),
        (0, "0"),
        (0.0, "0"),
        (0.5, "0.5000"),
        (0.51234, "0.5123"),
        (0.04012, "0.0401"),
        (0.00015, "0.00015"),
        (6.8, "6.800"),
        (12.1, "12.10"),
        (-123.45, "-123.5"),
        (788800000.0, "788,800,000"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (np.float32(0.25), "0.2500"),
        (np.int64(1234), "1,234"),
    ],
)
def test_numbers_as_people_read_them(value, text):
    assert format_number(value) == text


def test_cells_stay_on_one_line():
    cells = [format_cell(value) for value in (None, True, False, "two\n  lines", 3)]
    assert cells == ["-", "yes", "no", "two lines", "3"]


def test_table_aligns_numbers_right_and_text_left():
    rows = [
        {"class": "circle", "AP": 0.5, "objects": 1200},
        {"class": "ring", "AP": None, "objects": 7, "note": "rare"},
    ]
    assert format_table(rows).splitlines() == [
        "class       AP  objects  note",
        "------  ------  -------  ----",
        "circle  0.5000    1,200  -",
        "ring         -        7  rare",
    ]


def test_table_with_chosen_columns():
    assert format_table([{"a": 1, "b": "x"}], ["b", "c"]) == "b  c\n-  -\nx  -"


def test_table_without_rows():
    assert format_table([], ["a", "AP50"]) == "a  AP50\n-  ----"
    assert format_table([]) == ""


def test_csv_has_the_union_of_columns_and_full_precision(tmp_path):
    rows = [{"job": 0, "AP": 0.123456789}, {"job": 1, "error": 'broken, "so to say"\nhere', "AP": None}]
    path = write_csv(tmp_path / "new" / "sweep.csv", rows)
    assert path.read_bytes() == b'job,AP,error\n0,0.123456789,\n1,,"broken, ""so to say""\nhere"\n'


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "report.html", "old")

    def fail(source, target):
        assert source.read_text() == "new"
        assert source.parent == target.parent
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_can_be_read_by_others(tmp_path):
    assert write_whole(tmp_path / "a.csv", "ü").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(1)", "\t=1", "\r=1", "a\r=1"])
def test_no_cell_begins_a_formula(tmp_path, text):
    wanted = text.replace("\r", " ") if text.startswith("a") else "'" + text.replace("\r", " ")
    path = write_csv(tmp_path / "sweep.csv", [{"name": text, "lr": "-0.5", "AP": -0.25, "error": "x=1"}])
    with path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"name": wanted, "lr": "-0.5", "AP": "-0.25", "error": "x=1"}]
