"""Evaluates a model on a labelled split and writes the run folder: figures, predictions and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seg_det import origin
from seg_det.data.classes import with_categories
from seg_det.data.fingerprints import fingerprint
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.evaluation.environment import environment
from seg_det.evaluation.measure import Evaluation, evaluate
from seg_det.facts import EvaluationFacts, Figures, LeftOut, ModelFacts, PartCost, SplitFingerprint
from seg_det.files import write_json, write_rows
from seg_det.kinds.kind import Kind
from seg_det.kinds.lookup import kind_of, require_kind
from seg_det.metrics.complexity import count
from seg_det.predict.predictor import Predictor
from seg_det.report.html import write_report
from seg_det.runs import RunRecord
from seg_det.types import ModelCard

PROBLEMS = "problems.json"  # in the folder of a run


@dataclass(frozen=True)
class Destination:
    """The folder that a run is written to, and how the run was made."""

    run: Path
    config: str  # the whole configuration as YAML
    command: str = ""  # that does it again
    seed: int | None = None


def evaluate_model(
    predictor: Predictor,
    network: nn.Module,
    source: Source,
    *,
    destination: Destination,
    batch_size: int,
    num_workers: int,
    device: torch.device | str,
    options: dict[str, Any],
) -> RunRecord:
    """Evaluate a predictor on a split and write the run folder of ``destination``; returns what metrics.json holds.

    ``network`` is the predictor's, whose size is reported; an exported file's may be without memory for its tensors.
    """
    card = predictor.card
    kind = kind_of(card)
    require_kind(kind, source)
    if unknown := sorted(set(options) - kind.options):
        raise UserError(f"The evaluation of {kind.name} has no option {', '.join(unknown)}: leave it out.")
    data = (fingerprint(source),)
    source = with_categories(source, card.categories, f"the model {card.name}")
    evaluation = evaluate(
        kind, predictor, source, batch_size=batch_size, num_workers=num_workers, device=device, options=options
    )
    record = measured("evaluate", kind, network, card, evaluation, source)
    if fit := kind.anchors(network, card, source, None):
        record = replace(record, anchors=(fit,))
    record = with_origin(record, destination, device, sources=(source,), data=data)
    write_run(kind, destination, record, evaluation, source, history=None)
    return record


def measured(
    verb: str, kind: Kind, model: nn.Module, card: ModelCard, evaluation: Evaluation, source: Source
) -> RunRecord:
    """What was measured and of what."""
    complexity = count(model, card.input_size)
    headline = evaluation.report.headline()
    return RunRecord(
        verb=verb,
        name=card.name,
        headline={name: headline.get(name) for name in kind.shown},
        figures=Figures.of(evaluation.report.to_dict()),
        model=ModelFacts(complexity.params, complexity.madds, card.input_size),
        cost={name: PartCost(int(part.params), int(part.madds)) for name, part in complexity.by_part.items()},
        evaluation=EvaluationFacts(source.name, len(source.records), round(evaluation.ms_per_image, 2)),
        card=card,
    )


def with_origin(
    record: RunRecord,
    destination: Destination,
    device: torch.device | str,
    *,
    sources: Sequence[Source],
    data: Sequence[SplitFingerprint],
) -> RunRecord:
    """``record`` with how to do it again, where it was done, on which data, and what is wrong with the ``sources``."""
    return replace(
        record,
        problems=tuple(dict.fromkeys(sentence for source in sources for sentence in source.problems)),
        left_out={source.name: LeftOut(*source.lost) for source in sources if any(source.lost)},
        command=destination.command,
        commit=origin.commit(),
        seed=destination.seed,
        environment=environment(device),
        data=tuple(data),
    )


def write_run(
    kind: Kind,
    destination: Destination,
    record: RunRecord,
    evaluation: Evaluation,
    source: Source,
    history: Path | None,
) -> None:
    """Write predictions.json, metrics.json, report.html and, of data with problems, problems.json.

    ``history`` is the log of a training.
    """
    if record.problems:
        left_out = {split: asdict(lost) for split, lost in record.left_out.items()}
        write_json(destination.run / PROBLEMS, {"left_out": left_out, "problems": record.problems})
    write_rows(destination.run / "predictions.json", evaluation.metric.results())
    record.write(destination.run)
    details = kind.details(evaluation.metric, evaluation.report, source)
    write_report(destination.run, record=record, history=history, config=destination.config, details=details)
