"""What a training would see, without training: augmented batches, how often each class comes, how large objects are."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

from seg_det import checkpoint
from seg_det.data.loaders import train_loader
from seg_det.data.multi_scale import MultiScale
from seg_det.kinds.lookup import kind_named
from seg_det.report.preview import contact_sheet, draw_counts, draw_sizes, write_preview
from seg_det.training.run import Training, card_of, checked, say_doubts
from seg_det.training.start import Started

log = logging.getLogger(__name__)
BATCHES = 3
MOST_SHOWN = 16  # images of a batch


def preview(setup: Training) -> Path:
    """Write the first augmented batches of a training and the statistics of its data; returns the page's path.

    The batches are those that the training would begin with. Raises UserError for what would end the training.
    """
    kind = kind_named(setup.kind, "The configuration")
    say_doubts(kind, setup, checked(kind, setup))
    model = checkpoint.build_model({**setup.model, "num_classes": len(setup.train.categories)})
    predictor = kind.task.predictor(model, card_of(kind, setup, Started("none")))
    loader = train_loader(
        setup.train,
        setup.augmentation,
        seed=setup.seed,
        epochs=setup.trainer.max_epochs or 1,
        balance=setup.balance,
        batch_size=setup.batch_size,
        num_workers=setup.num_workers,
    )
    resize = MultiScale(setup.training_sizes, setup.seed) if setup.training_sizes else None
    sheets = []
    for index, batch in enumerate(islice(loader, BATCHES)):
        seen = batch if resize is None else resize(batch, 0, index)
        sheets.append(contact_sheet(kind.drawn_batch(seen, setup.train.categories)[:MOST_SHOWN]))
    counts, unit = kind.class_counts(setup.train)
    charts = [draw_counts(counts, unit)]
    if (shapes := kind.object_sizes(predictor, setup.train)) is not None:
        charts.append(draw_sizes(*shapes, max(setup.input_size)))
    notes = [
        f"{len(setup.train.records):,} images of {setup.train.name}, {setup.batch_size} a step, at "
        f"{setup.input_size[1]} x {setup.input_size[0]} pixels"
    ]
    if doubt := kind.doubts(predictor, setup.train, setup.loss):
        log.warning("%s", doubt)
        notes.append(doubt)
    return write_preview(setup.run, setup.name, sheets, charts, notes)
