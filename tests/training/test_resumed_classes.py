"""A run that is resumed on data of other classes than it was trained on."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from seg_det.data.records import DetectionSource
from seg_det.errors import UserError
from seg_det.training.run import _load_start
from seg_det.types import Category, ModelCard


def test_resume_wants_the_classes_of_the_run(tmp_path):
    cats = tuple(Category(i, name) for i, name in enumerate(("cat", "dog", "fox")))
    card = ModelCard(
        "detection", "x", {}, {}, cats[:2], (64, 64), (0, 0, 0), (1, 1, 1), training_data={"start": "none"}
    )
    path = tmp_path / "last.ckpt"
    torch.save({"card": card.to_dict(), "state_dict": {}}, path)
    setup = SimpleNamespace(resume=Path(path), train=DetectionSource("pets train", (), cats))
    with pytest.raises(
        UserError, match=r"last\.ckpt was trained on 2 classes \(cat, dog\), pets train has 3 \(cat, dog, fox\)"
    ):
        _load_start(torch.nn.Identity(), setup)
    setup.train = DetectionSource("pets train", (), cats[:2])
    assert _load_start(torch.nn.Identity(), setup).weights == "none"
