"""The report of an export: checkpoint and file side by side."""

from pathlib import Path

import numpy as np
import pytest
from records import export_record
from test_html_report import HOSTILE, Page

from seg_det.report.exported import write_export_report
from seg_det.report.pictures import Gallery, Picture
from seg_det.runs import ExportRecord

EARLIER = Path(__file__).parent.parent / "fixtures" / "earlier"


def written(folder, record, **more):
    path = write_export_report(folder, name="ssdlite", record=record, **more)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_figures_sizes_and_times_of_both(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"x" * 3_210_000)
    (tmp_path / "a.json").write_bytes(b"x" * 5_210)
    sections = written(tmp_path, export_record({"outputs": ["boxes", HOSTILE]})).sections
    assert sections["headline"] == (
        "AP 0.500 checkpoint AP 0.438 file MB 3.5 the checkpoint has 12.5 ms an image 8.25 the checkpoint takes 20.5"
    )
    assert sections["verdict"] == "Rejected: AP differs by 0.06250, and at most 0.01 was to be accepted."
    assert "AP 0.500 0.438 -0.06250 mean over IoU 0.50 to 0.95" in sections["compared"]
    assert "AP50 0.750 0.812 +0.06250 at IoU 0.50 APs - 0.250 -" in sections["compared"]
    assert f"outputs boxes, {HOSTILE}" in sections["card"]
    assert "box in pixels 1.5" in sections["card"] and "a.onnx 3.21 MB a.json 5.2 kB" in sections["card"]


def test_the_images_that_differ_and_how_to_do_it_again(tmp_path):
    gallery = Gallery(
        "Where they differ most", "First.", [Picture("a.png", "score 0.5", np.zeros((9, 20, 3), np.uint8))]
    )
    record = export_record({"command": "python export.py target=onnx", "environment": {"torch": "2"}})
    page = written(tmp_path, record, galleries=[gallery])
    assert "a.png score 0.5" in page.sections["pictures-1-1"]
    assert "python export.py target=onnx" in page.sections["again"] and "PyTorch 2" in page.sections["again"]


def test_a_file_that_cannot_run_here(tmp_path):
    left_out = ("metric", "figures", "split", "largest", "checkpoint_ms", "file_ms")
    record = export_record({"accepted": None, "not_verified": "it needs macOS"}, without=left_out)
    page = written(tmp_path, record)
    assert page.sections["verdict"] == "Not verified: it needs macOS."
    assert page.sections["headline"] == "MB 3.5 the checkpoint has 12.5" and "compared" not in page.sections


@pytest.mark.parametrize("kind", [path.name for path in sorted(EARLIER.iterdir())])
def test_records_of_an_earlier_version(tmp_path, kind):
    record = ExportRecord.read(EARLIER / kind / "export.json")
    verified = record.verification
    page = written(tmp_path, record)
    assert page.sections["verdict"].startswith("Accepted: ")
    assert f"{verified.metric} {verified.checkpoint_value:.3f} {verified.file_value:.3f}" in page.sections["compared"]
