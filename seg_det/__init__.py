"""Mobile semantic segmentation and detection: train, measure, export, and use what was trained.

>>> import seg_det
>>> model = seg_det.load("best.ckpt")
>>> result = model("photo.jpg")
>>> result.draw().save("out.png")

and seg_det.train(["dataset.root=photos"]) trains a model.

Importing this package loads none of the libraries behind it; the names below do when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_det.commands.api import train
    from seg_det.predict.loading import load
    from seg_det.predict.model import Model
    from seg_det.predict.result import Result

__version__ = "0.1.0"
__all__ = ["Model", "Result", "__version__", "load", "train"]
HOMES = {
    "load": "seg_det.predict.loading",
    "Model": "seg_det.predict.model",
    "Result": "seg_det.predict.result",
    "train": "seg_det.commands.api",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
