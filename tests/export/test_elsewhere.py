"""A file that this machine can write and not run: it is kept, and nobody is told that it was proved."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
from export_cells import cell

from seg_det.data.shapes import read_shapes
from seg_det.errors import UserError
from seg_det.export.onnx import OnnxTarget
from seg_det.proof.verification import Export, export_model
from seg_det.report.terminal import export_summary
from seg_det.runs import ExportRecord


@dataclass(frozen=True)
class Distant(OnnxTarget):
    packages: ClassVar[tuple[str, ...]] = ()
    calibrates: ClassVar[bool] = False

    def elsewhere(self):
        return "such files run on the moon only"

    def write(self, job, path):
        assert list(job.calibration) == []
        path.write_text("far away")
        return {"tail": None}


@dataclass(frozen=True)
class Curious(Distant):
    calibrates: ClassVar[bool] = True


def setup(target, run, shapes):
    source = read_shapes(shapes, "val", train_images=24, val_images=8)
    model, card = cell("ssdlite_v2", width=0.35, categories=source.categories)
    (run / "best.ckpt").write_text("weights")
    saved = {"path": str(run / "best.ckpt"), "sha256": "0"}
    return Export(target, model, card, saved, run, source, precision="int8", calibration=source, calibration_images=64)


def test_it_is_written_and_called_unverified(tiny_shapes, tmp_path):
    record = export_model(setup(Distant(), tmp_path, tiny_shapes))
    assert record.accepted is None and record.not_verified == "such files run on the moon only"
    assert record == ExportRecord.read(tmp_path / "export.json")
    assert (tmp_path / record.files[0]).read_text() == "far away"
    assert not list(tmp_path.glob("*.rejected"))
    assert "NOT VERIFIED: such files run on the moon only" in export_summary(record)
    assert "accepted" not in export_summary(record)


def test_only_who_looks_at_images_asks_for_them(tiny_shapes, tmp_path):
    with pytest.raises(UserError, match="wants calibration.images=64, and shapes val has 0 images besides"):
        export_model(setup(Curious(), tmp_path, tiny_shapes))
