"""Evaluates a model on a labelled split and writes the run folder: figures, predictions and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_det.data.classes import with_categories
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.evaluation.environment import environment
from seg_det.evaluation.measure import Evaluation, evaluate
from seg_det.files import write_json, write_rows
from seg_det.kinds.kind import Kind
from seg_det.kinds.lookup import kind_of, require_kind
from seg_det.metrics.complexity import count
from seg_det.predict.predictor import Predictor
from seg_det.report.html import write_report
from seg_det.types import ModelCard

PROBLEMS = "problems.json"  # in the folder of a run


@dataclass(frozen=True)
class Record:
    """Where a run is written, and what is kept of how it was made."""

    run: Path
    config: str  # the whole configuration as YAML
    command: str = ""  # that does it again


def evaluate_model(
    predictor: Predictor,
    network: nn.Module,
    source: Source,
    *,
    record: Record,
    batch_size: int,
    num_workers: int,
    device: torch.device | str,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Evaluate a predictor on a split and write the run folder of ``record``; returns the content of metrics.json.

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
    anchors = kind.anchors(network, card, source, None)
    metrics = {
        "verb": "evaluate",
        **figures_of(kind, network, card, evaluation, source),
        "anchors": [anchors] if anchors else [],
        **problems_of(source),
        **about(record, device),
    }
    write_run(kind, record, metrics, evaluation, source, history=None)
    return metrics


def figures_of(kind: Kind, model: nn.Module, card: ModelCard, evaluation: Evaluation, source: Source) -> dict[str, Any]:
    """What was measured and of what, as plain values for metrics.json."""
    complexity = count(model, card.input_size)
    headline = evaluation.report.headline()
    return {
        "name": card.name,
        "headline": {name: headline.get(name) for name in kind.shown},
        **evaluation.report.to_dict(),
        "model": {"params": complexity.params, "madds": complexity.madds, "input_size": list(card.input_size)},
        "cost": {name: cost._asdict() for name, cost in complexity.by_part.items()},
        "evaluation": {
            "split": source.name,
            "images": len(source.records),
            "ms_per_image": round(evaluation.ms_per_image, 2),
        },
        "card": card.to_dict(),
    }


def problems_of(*sources: Source) -> dict[str, Any]:
    """What the readers found wrong, and how much they left out by split, as plain values for metrics.json."""
    return {
        "problems": list(dict.fromkeys(sentence for source in sources for sentence in source.problems)),
        "left_out": {source.name: source.lost._asdict() for source in sources if any(source.lost)},
    }


def about(record: Record, device: torch.device | str) -> dict[str, Any]:
    """How to do it again, and where it was done, as plain values for metrics.json."""
    return {"command": record.command, "environment": environment(device)}


def write_run(
    kind: Kind, record: Record, metrics: dict[str, Any], evaluation: Evaluation, source: Source, history: Path | None
) -> None:
    """Write predictions.json, metrics.json, report.html and, of data with problems, problems.json.

    ``history`` is the log of a training.
    """
    if metrics["problems"]:
        write_json(record.run / PROBLEMS, {key: metrics[key] for key in ("left_out", "problems")})
    write_rows(record.run / "predictions.json", evaluation.metric.results())
    write_json(record.run / "metrics.json", metrics)
    details = kind.details(evaluation.metric, evaluation.report, source)
    write_report(record.run, metrics=metrics, history=history, config=record.config, details=details)
