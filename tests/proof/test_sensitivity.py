"""A layer that was made bad for 8 bits on purpose: the table names it, and the search keeps it in 32."""

import csv
from dataclasses import replace

import pytest
import torch
from records import export_record
from torch import nn

from seg_det.data.imagefolder import read_imagefolder
from seg_det.errors import UserError
from seg_det.export.openvino import OpenVinoTarget
from seg_det.facts import Attempt
from seg_det.proof import sensitivity as module
from seg_det.proof.sensitivity import search, search_text, sensitivity
from seg_det.proof.verification import Export
from seg_det.runs import ExportRecord
from seg_det.types import ModelCard

SIZE = (48, 48)
BAD = "second"


class Colours(nn.Module):
    """Says which colour is strongest, by way of a map with one channel that is huge and hardly read.

    8 bits of that map have steps of more than 100, and the colours in it lie within 2: ``second`` sees only zeros then.
    """

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1), nn.Conv2d(3, 3, 1)
        self.act = nn.ReLU()
        with torch.no_grad():
            self.first.weight.copy_(torch.cat([torch.full((1, 3), 1e4), torch.eye(3)])[..., None, None])
            self.first.bias.copy_(torch.tensor([6e4, 0, 0, 0]))
            self.second.weight.copy_(torch.cat([torch.full((3, 1), 1e-6), torch.eye(3)], 1)[..., None, None])
            self.third.weight.copy_(torch.eye(3).flip(0)[..., None, None])  # blue, green, red, as the data has them
            self.second.bias.zero_()
            self.third.bias.copy_(torch.tensor([0.02, 0.01, 0.0]))  # the first of equal ones

    def forward(self, images):
        return self.third(self.act(self.second(self.act(self.first(images))))).mean((2, 3))


@pytest.fixture
def setup(tiny_imagefolder, tmp_path):
    train, val = (read_imagefolder(root=tiny_imagefolder, split=split) for split in ("train", "val"))
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"weights")
    return Export(
        target=OpenVinoTarget(),
        model=Colours().eval(),
        card=ModelCard(
            "classification", "colours", {}, {}, train.categories, SIZE, (100.0,) * 3, (60.0,) * 3, resize="centre_crop"
        ),
        checkpoint={"path": str(path), "sha256": ""},
        run=tmp_path,
        validation=val,
        calibration=train,
        precision="int8",
        calibration_images=24,
    )


def test_the_table_names_the_layer(setup):
    found = sensitivity(setup, 24)
    assert {cost.layer: pytest.approx(cost.lost) for cost in found.costs} == {"second": 2 / 3, "first": 0, "third": 0}
    worst = found.costs[0]
    assert worst.layer == BAD and worst.noise > 0.5 > 1e-3 > max(cost.noise for cost in found.costs[1:])
    assert (found.metric, found.images, found.exact) == ("top1", 24, 1.0)
    assert found.simulated == pytest.approx(1 / 3)  # the first colour, whatever it is
    with (setup.run / "sensitivity.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == [cost.layer for cost in found.costs]
    assert float(rows[0]["lost"]) == worst.lost and float(rows[0]["noise"]) == worst.noise
    assert BAD in found.text().splitlines()[3]


@pytest.mark.slow
def test_the_search_keeps_it_in_32_bits(setup):
    record = search(setup, 24)
    assert record.accepted and record.keep_float == (BAD,)
    first, last = record.search
    assert first.keep_float == () and first.value < 0.99 and not first.accepted
    assert last == Attempt((BAD,), 1.0, True)
    assert record.facts["quantisation"]["float_layers"] == 1
    assert not list(setup.run.glob("*.rejected"))
    assert ExportRecord.read(setup.run / "export.json") == record
    assert search_text(record).endswith(f"In 32 bits: {BAD}.")


def test_both_are_about_8_bits(setup):
    for start in (sensitivity, search):
        with pytest.raises(UserError, match="about precision=int8, got precision=fp16"):
            start(replace(setup, precision="fp16"), 4)


def test_a_search_ends_where_every_layer_would_stay(setup, monkeypatch):
    tried = []

    def rejecting(setup):
        tried.append(len(setup.keep_float))
        (setup.run / "x.rejected").write_text("")
        return export_record({"keep_float": list(setup.keep_float), "files": ["x.rejected"]})

    monkeypatch.setattr(module, "export_model", rejecting)
    record = search(setup, 3)
    assert tried == [0, 1, 2]  # of three layers
    assert not record.accepted and "2 layers in 32 bits are not enough" in search_text(record)
    assert [path.name for path in setup.run.glob("*.rejected")] == ["x.rejected"]
