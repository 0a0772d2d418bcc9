"""Evaluates a model on a labelled split and writes the run folder: figures, predictions and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_det.data.classes import with_categories
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.evaluation.measure import Evaluation, evaluate
from seg_det.files import write_json, write_rows
from seg_det.kinds.kind import Kind
from seg_det.kinds.lookup import kind_of, require_kind
from seg_det.metrics.complexity import count
from seg_det.predict.predictor import Predictor
from seg_det.report.html import write_report
from seg_det.types import ModelCard


def evaluate_model(
    predictor: Predictor,
    network: nn.Module,
    source: Source,
    *,
    run: Path,
    config: str,
    batch_size: int,
    num_workers: int,
    device: torch.device | str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Evaluate a predictor on a split and write the run folder; returns the content of metrics.json.

    ``network`` is the predictor's, whose size is reported; an exported file's may be without memory for its tensors.
    """
    card = predictor.card
    kind = kind_of(card)
    require_kind(kind, source)
    if unknown := sorted(set(options) - kind.options):
        raise UserError(f"The evaluation of {kind.name} has no option {', '.join(unknown)}: leave it out.")
    source = with_categories(source, card.categories, f"the model {card.name}")
    evaluation = evaluate(
        kind, predictor, source, batch_size=batch_size, num_workers=num_workers, device=device, options=options
    )
    metrics = {
        **figures_of("evaluate", kind, network, card, evaluation, source),
        "problems": list(source.problems),
    }
    write_run(kind, run, metrics, evaluation, source, config, history=None)
    return metrics


def figures_of(
    verb: str, kind: Kind, model: nn.Module, card: ModelCard, evaluation: Evaluation, source: Source
) -> dict[str, Any]:
    complexity = count(model, card.input_size)
    headline = evaluation.report.headline()
    return {
        "verb": verb,
        "name": card.name,
        "headline": {name: headline.get(name) for name in kind.shown},
        **evaluation.report.to_dict(),
        "model": {"params": complexity.params, "madds": complexity.madds, "input_size": list(card.input_size)},
        "evaluation": {
            "split": source.name,
            "images": len(source.records),
            "ms_per_image": round(evaluation.ms_per_image, 2),
        },
        "card": card.to_dict(),
    }


def write_run(
    kind: Kind,
    run: Path,
    metrics: dict[str, Any],
    evaluation: Evaluation,
    source: Source,
    config: str,
    history: Path | None,
) -> None:
    write_rows(run / "predictions.json", evaluation.metric.results())
    write_json(run / "metrics.json", metrics)
    samples = kind.samples(evaluation.metric, source)
    write_report(run, metrics=metrics, history=history, config=config, samples=samples)
