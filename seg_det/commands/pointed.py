"""What the model that evaluate.py measures learned from, so that the folder of ``dataset.root`` is read for that."""

from __future__ import annotations

from pathlib import Path

from seg_det.data.recognise import BOXES, CLASSES, MASKS
from seg_det.errors import UserError


def learned_from(reference: str | None) -> str:
    """What a run, a checkpoint or an exported file learned from; None: the newest run. Raises UserError."""
    from seg_det import checkpoint  # imports torch, which --help need not
    from seg_det.commands.folders import newest_run
    from seg_det.predict.exported import is_exported, open_file
    from seg_det.predict.published import is_published

    reference = reference or str(newest_run())
    if is_published(reference):
        raise UserError(
            f"{reference} was not trained here: name the data set beside its folder, dataset=custom_coco say."
        )
    if is_exported(reference):
        return of_kind(open_file(Path(reference)).card.task)
    card = checkpoint.card_of(path := checkpoint.find(reference))
    if card is None:
        raise UserError(f"{path} has no card: name the data set beside its folder, dataset=custom_coco say.")
    return of_kind(card.task)


def of_kind(kind: str) -> str:
    """What a kind of task learns from. Raises UserError for an unknown kind."""
    from seg_det.kinds.lookup import kind_named

    data = kind_named(kind, "The model").data
    return next((wanted for wanted in (BOXES, MASKS) if wanted in data), CLASSES)
