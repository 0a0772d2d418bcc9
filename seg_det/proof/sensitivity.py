"""Mixed precision: what each layer costs when it alone has 8 bits, and a search for the layers that must keep 32."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seg_det.data.classes import with_categories
from seg_det.data.records import Source, with_records
from seg_det.errors import UserError
from seg_det.evaluation.measure import loader, predictions_of
from seg_det.export.pipeline import completed, exportable
from seg_det.facts import Attempt
from seg_det.kinds.kind import Kind
from seg_det.kinds.lookup import KINDS
from seg_det.nn.fake_quant import Simulation, calibrate, simulate
from seg_det.predict.predictor import NetworkPredictor
from seg_det.progress import progress_bar
from seg_det.proof.verification import Export, calibration_source, export_model, verification_source
from seg_det.report.tables import format_table, write_csv
from seg_det.runs import ExportRecord

log = logging.getLogger(__name__)
SHOWN = 10  # layers in the terminal
CHANCE = 0.005  # a smaller loss on a few images says nothing: such layers are ordered by their noise


@dataclass(frozen=True)
class Cost:
    """A layer, and what is lost when it alone computes in 8 bits."""

    layer: str
    lost: float  # of the metric
    noise: float  # square error of the network's outputs, as a share of their variance; of several outputs the largest


@dataclass(frozen=True)
class Sensitivity:
    """The costs of all layers, simulated with :mod:`seg_det.nn.fake_quant`."""

    metric: str
    images: int
    split: str
    exact: float  # the metric in 32 bits
    simulated: float  # in 8 bits, all layers
    costs: tuple[Cost, ...]  # most expensive first

    def text(self) -> str:
        """The most expensive layers as a table."""
        rows = [{"layer": c.layer, f"{self.metric} lost": c.lost, "noise": c.noise} for c in self.costs[:SHOWN]]
        return (
            f"Simulated on {self.images} images of {self.split}: {self.metric} {self.exact:.4f} in 32 bits, "
            f"{self.simulated:.4f} in 8. A single layer in 8 bits costs, of {len(self.costs)} the most:\n"
            f"{format_table(rows)}"
        )


def sensitivity(setup: Export, images: int) -> Sensitivity:
    """Measure every layer on ``images`` of the calibration images, so that the verification stays with images of its own.

    Writes sensitivity.csv into the run folder. Raises UserError without precision=int8.
    """
    _require_int8(setup)
    kind, card = KINDS[setup.card.task], completed(setup.card, "full")
    source = calibration_source(setup, verification_source(setup))
    source = with_categories(with_records(source, source.records[:images]), card.categories, card.name)
    measured = _Measured(kind, kind.task.predictor(exportable(setup.model), card).eval(), source, setup.num_workers)
    found = measured.costs()
    write_csv(setup.run / "sensitivity.csv", [asdict(cost) for cost in found.costs])
    log.info("%s", found.text())
    return found


class _Measured:
    """A model beside its simulation, on images that are read once."""

    def __init__(self, kind: Kind, predictor: NetworkPredictor, source: Source, num_workers: int):
        self.kind = kind
        self.predictor = predictor
        self.source = source
        batches = loader(kind, predictor.preprocessing, source, batch_size=1, num_workers=num_workers)
        self.batches = list(progress_bar(batches, desc=f"reading {source.name}", unit="image"))
        self.outputs: list[tuple[Tensor, ...]] = []
        predictor.model.register_forward_hook(lambda model, inputs, raw: self.outputs.append(_parts(raw)))

    @torch.inference_mode()
    def costs(self) -> Sensitivity:
        simulations = simulate(self.predictor.model)
        calibrate(simulations.values(), self._predict)
        simulated = self._value()
        _activate(simulations, ())
        exact = self._value()
        reference = self.outputs
        costs = []
        for name in progress_bar(simulations, desc="each layer in 8 bits", unit="layer"):
            _activate(simulations, (name,))
            costs.append(Cost(name, exact - self._value(), _noise(reference, self.outputs)))
        costs.sort(key=lambda cost: (cost.lost if cost.lost > CHANCE else 0.0, cost.noise), reverse=True)
        return Sensitivity(self.kind.monitor, len(self.batches), self.source.name, exact, simulated, tuple(costs))

    def _predict(self) -> list[Any]:
        self.outputs = []
        return [predictions_of(self.predictor, batch, self.source) for batch in self.batches]

    def _value(self) -> float:
        metric = self.kind.metric(self.source)
        for batch, predictions in zip(self.batches, self._predict(), strict=True):
            metric.update(batch.image_ids, self.kind.scored(predictions, batch.truths))
        return metric.compute().headline().get(self.kind.monitor) or 0.0


def _activate(simulations: dict[str, Simulation], names: Sequence[str]) -> None:
    for name, simulation in simulations.items():
        simulation.active = name in names


def _parts(raw: Any) -> tuple[Tensor, ...]:
    """The tensors of a raw output."""
    return (raw,) if isinstance(raw, Tensor) else tuple(part for part in raw if isinstance(part, Tensor))


def _noise(exact: Sequence[tuple[Tensor, ...]], found: Sequence[tuple[Tensor, ...]]) -> float:
    shares = []
    for wanted, got in zip(zip(*exact, strict=True), zip(*found, strict=True), strict=True):
        error = sum(float((a - b).square().mean()) for a, b in zip(wanted, got, strict=True))
        shares.append(error / max(sum(float(a.var()) for a in wanted), 1e-12))
    return max(shares)


def search(setup: Export, images: int, found: Sensitivity | None = None) -> ExportRecord:
    """Export in 8 bits; beyond the tolerance again with the 1, 2, 4, ... most expensive layers in 32, until it holds.

    ``found``, by default measured on ``images`` when it is needed, says which. Returns what the last export.json holds, in which
    ``search`` lists the attempts. Raises UserError without precision=int8.
    """
    _require_int8(setup)
    record = export_model(setup)
    attempts = [_attempt(record)]
    if record.accepted is False:
        found = found or sensitivity(setup, images)
        layers = [cost.layer for cost in found.costs if cost.layer not in setup.keep_float]
        count = 1
        while record.accepted is False and count < len(layers):
            _remove(setup.run / record.files[0])
            record = export_model(replace(setup, keep_float=(*setup.keep_float, *layers[:count])))
            attempts.append(_attempt(record))
            count *= 2
    record = replace(record, search=tuple(attempts))
    record.write(setup.run)
    return record


def search_text(record: ExportRecord) -> str:
    """What a search tried, and which layers stay in 32 bits."""
    if record.verification is None:
        return "Nothing was searched for: the file cannot be measured on this machine."
    metric, kept = record.verification.metric, record.search[-1].keep_float
    rows = [
        {"layers in 32 bits": len(one.keep_float), metric: one.value, "accepted": one.accepted} for one in record.search
    ]
    if not record.accepted:
        verdict = f"Gave up: {len(kept)} layers in 32 bits are not enough, and twice as many would be all: use precision=fp16."
    else:
        verdict = f"In 32 bits: {', '.join(kept)}." if kept else "8 bits serve every layer."
    return f"{format_table(rows)}\n{verdict}"


def _attempt(record: ExportRecord) -> Attempt:
    value = record.verification.file_value if record.verification else None
    return Attempt(record.keep_float, value, record.accepted)


def _remove(rejected: Path) -> None:
    shutil.rmtree(rejected) if rejected.is_dir() else rejected.unlink()


def _require_int8(setup: Export) -> None:
    if setup.precision != "int8":
        raise UserError(f"sensitivity and search are about precision=int8, got precision={setup.precision}.")
