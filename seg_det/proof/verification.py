"""Exporting a model and proving the file: the same images through the checkpoint and through the file, the same evaluator."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from seg_det import __version__, origin, sidecar
from seg_det.data.classes import with_categories
from seg_det.data.fingerprints import fingerprint
from seg_det.data.records import Source, with_records
from seg_det.errors import UserError
from seg_det.evaluation.environment import environment
from seg_det.evaluation.measure import evaluate, loader
from seg_det.export import runner, snippets
from seg_det.export.base import Extras, Job, Target
from seg_det.export.pipeline import build_graph, completed, exportable, outputs_of
from seg_det.facts import CheckpointFacts, Compared, Verification, plain_values
from seg_det.files import nothing_half
from seg_det.kinds.kind import Kind
from seg_det.kinds.lookup import KINDS, require_kind
from seg_det.predict.exported import FilePredictor, Opened, open_file
from seg_det.predict.lookup import task_of
from seg_det.predict.predictor import Predictor
from seg_det.predict.preprocessing import Preprocessing
from seg_det.proof.comparison import differing
from seg_det.proof.kept import Kept
from seg_det.report.exported import write_export_report
from seg_det.report.pictures import Gallery
from seg_det.runs import ExportRecord
from seg_det.types import ModelCard

TOLERANCES = {"fp32": 1e-3, "fp16": 2e-3, "int8": 1e-2}  # of the headline figure


@dataclass(frozen=True)
class Export:
    """Everything that an export is made of."""

    target: Target
    model: nn.Module
    card: ModelCard
    checkpoint: dict[str, str]  # its path and sha256
    run: Path
    validation: Source
    pipeline: str | None = None  # None: the target's own first
    precision: str = "fp32"
    calibration: Source | None = None  # images to choose from, for int8
    calibration_images: int = 64
    seed: int = 0  # of their choice
    keep_float: tuple[str, ...] = ()  # int8: parts of the model whose layers stay in 32 bits
    verified_images: int | None = 200  # None: all
    tolerance: float | None = None  # None: TOLERANCES'
    num_workers: int = 0
    config: str = ""  # the whole configuration as YAML, for the report
    command: str = ""  # that does it again, for the report

    @property
    def form(self) -> str:
        """The pipeline, or the target's own first."""
        return self.pipeline or self.target.pipelines[0]


class Verified(NamedTuple):
    """How a file compares with its checkpoint, and the images on which they differ most; or why that was not measured."""

    verification: Verification | None
    galleries: tuple[Gallery, ...] = ()
    reason: str | None = None


def export_model(setup: Export) -> ExportRecord:
    """Write the file, its card and its runner, verify it, write export.json and report.html; returns what the first holds.

    Where the file is beyond the tolerance it is left as ``<stem>.rejected``, and ``accepted`` is false; where it cannot be run
    on this machine ``accepted`` is None, and ``not_verified`` says why. Raises UserError.
    """
    setup = _checked(setup)
    kind, target = KINDS[setup.card.task], setup.target
    validation = verification_source(setup)
    path = target.place(setup.run, f"{setup.card.name}_{setup.precision}")
    path.parent.mkdir(parents=True, exist_ok=True)
    export = _about(setup)
    job = Job(
        exportable(setup.model),
        setup.card,
        setup.form,
        setup.precision,
        metadata=sidecar.sealed(setup.card, export),
        calibration=_calibration(setup, kind, validation) if target.calibrates else (),
        keep_float=setup.keep_float,
    )
    with nothing_half(path.parent):
        facts = target.write(job, path)
    files = [path.name, *facts.pop("files", [])]
    sidecar.write(path, setup.card, {**export, **facts}, files)
    verified = verify(setup, kind, path, validation)
    megabytes = round(sum(_bytes(path.parent / name) for name in files) / 1e6, 2)
    names, notes = _surrounded(setup, path, files, export, verified.verification, validation)
    record = replace(
        _record(setup, export, megabytes),
        facts={**_raw_facts(setup), **facts},
        verification=verified.verification,
        not_verified=verified.reason,
        files=names,
        notes=notes,
    )
    record.write(setup.run)
    write_export_report(
        setup.run, name=setup.card.name, record=record, galleries=verified.galleries, config=setup.config
    )
    return record


def _record(setup: Export, export: dict[str, Any], megabytes: float) -> ExportRecord:
    """What is known of an export before its verification; ``export`` is what its card says of it."""
    sources = [setup.validation, *([setup.calibration] if setup.calibration and setup.precision == "int8" else ())]
    return ExportRecord(
        target=setup.target.name,
        precision=setup.precision,
        pipeline=setup.form,
        keep_float=setup.keep_float,
        input=export["input"],
        outputs=tuple(export["outputs"]),
        checkpoint=_checkpoint(setup),
        versions=export["versions"],
        files=(),
        megabytes=megabytes,
        command=setup.command,
        commit=origin.commit(),
        seed=setup.seed,
        environment=environment(),
        data=tuple(map(fingerprint, sources)),
    )


def _surrounded(
    setup: Export,
    path: Path,
    files: list[str],
    export: dict[str, Any],
    verification: Verification | None,
    validation: Source,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write what goes around the file, and give a rejected one its name; returns the names of all files, and notes."""
    target, card = setup.target, setup.card
    names, extras = [f"{path.stem}.json"], Extras([], [])
    if target.program:
        names.append(runner.write(target, card, path, setup.form))
    names += snippets.write(target, card, export, path)
    if verification and not verification.accepted:
        path.rename(path.with_suffix(".rejected"))
        files = [path.with_suffix(".rejected").name, *files[1:]]
    else:
        extras = target.surround(card, path, [record.path for record in validation.records])
    inside = path.parent.relative_to(setup.run)
    return tuple((inside / name).as_posix() for name in [*files, *names, *extras.files]), tuple(extras.notes)


def verification_source(setup: Export) -> Source:
    """The images that the file is proved on, their labels as the card has them. Raises UserError for data of another kind."""
    require_kind(KINDS[setup.card.task], setup.validation)
    source = with_categories(setup.validation, setup.card.categories, f"the model {setup.card.name}")
    return with_records(source, _spread(source.records, setup.verified_images))


def verify(setup: Export, kind: Kind, path: Path, source: Source) -> Verified:
    """The figures of the checkpoint and of the file on ``source``, and how far they are apart."""
    if reason := setup.target.elsewhere():
        return Verified(None, reason=reason)
    theirs, ours = Kept(kind.metric(source)), Kept(kind.metric(source))
    file, workers = FilePredictor(open_file(path)), setup.num_workers
    found = evaluate(kind, file, source, batch_size=1, num_workers=workers, metric=theirs)
    reference = evaluate(kind, _reference(setup), source, batch_size=1, num_workers=workers, metric=ours)
    headlines = [evaluation.report.headline() for evaluation in (reference, found)]
    figures = [headline.get(kind.monitor) for headline in headlines]
    lost = abs((figures[0] or 0.0) - (figures[1] or 0.0))
    tolerance = TOLERANCES[setup.precision] if setup.tolerance is None else setup.tolerance
    verification = Verification(
        metric=kind.monitor,
        checkpoint_value=figures[0],
        file_value=figures[1],
        difference=lost,
        tolerance=tolerance,
        accepted=lost <= tolerance,
        largest=kind.differences(ours.predictions, theirs.predictions),
        images=len(source.records),
        split=source.name,
        checkpoint_ms=round(reference.ms_per_image, 2),
        file_ms=round(found.ms_per_image, 2),
        figures=Compared(*map(dict, headlines)),
    )
    names = ("checkpoint", f"{setup.target.name} {setup.precision}")
    shown = differing(kind, setup.card, source, (ours.predictions, theirs.predictions), names)
    return Verified(verification, shown)


def _reference(setup: Export) -> Predictor:
    """The checkpoint as evaluate.py measures it, or its graph where the file's pipeline gives less exact predictions."""
    task, card = task_of(setup.card), setup.card
    if setup.pipeline == "normalised" and not task.exact_when_normalised:
        graph = build_graph(Job(exportable(setup.model), card, setup.pipeline)).module
        (name,) = task.outputs

        def session(images: np.ndarray) -> dict[str, np.ndarray]:
            return {name: graph(torch.from_numpy(images)).numpy()}

        return FilePredictor(Opened(Path(card.name), card, {"pipeline": setup.pipeline}, session))
    return task.predictor(setup.model, card).eval()


def _checked(setup: Export) -> Export:
    """``setup`` with the defaults that follow from the rest. Raises UserError for what the target cannot do."""
    target = setup.target
    setup = replace(setup, pipeline=setup.form)
    for key, known in (("pipeline", target.pipelines), ("precision", target.precisions)):
        if getattr(setup, key) not in known:
            raise UserError(f"target={target.name} has {key}={', '.join(known)}, got {getattr(setup, key)!r}.")
    target.require()
    return replace(setup, card=completed(setup.card, setup.form))


def _about(setup: Export) -> dict[str, Any]:
    """What the card of the file says of the export."""
    about = {
        "target": setup.target.name,
        "precision": setup.precision,
        "pipeline": setup.pipeline,
        "keep_float": list(setup.keep_float),
        "input": "image" if setup.pipeline == "full" else "images",
        "outputs": list(outputs_of(setup.card, setup.form)),
        "checkpoint": plain_values(_checkpoint(setup)),
        "versions": {"seg_det": __version__, **_versions(("torch", *setup.target.packages))},
    }
    return {**about, **_raw_facts(setup)}


def _checkpoint(setup: Export) -> CheckpointFacts:
    path = Path(setup.checkpoint["path"])
    return CheckpointFacts(origin.portable(path), setup.checkpoint["sha256"], round(_bytes(path) / 1e6, 2))


def _raw_facts(setup: Export) -> dict[str, Any]:
    """What is needed to read raw outputs."""
    return task_of(setup.card).facts(setup.model, setup.card) if setup.pipeline == "raw" else {}


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # the package's distribution has another name
            found[name] = str(getattr(sys.modules.get(name), "__version__", "unknown"))
    return found


def calibration_source(setup: Export, validation: Source) -> Source:
    """The images for int8: drawn by the seed from the training split, none of ``validation`` among them. Raises UserError."""
    wanted, source = setup.calibration_images, setup.calibration
    if source is None:
        raise ValueError("expected images for the calibration of int8")
    seen = {record.path for record in validation.records}
    records = [record for record in source.records if record.path not in seen]
    if wanted < 1 or len(records) < wanted:
        raise UserError(
            f"precision=int8 wants calibration.images={wanted}, and {source.name} has {len(records)} images besides those of "
            "the verification: set calibration.images lower, from 1, or add training images."
        )
    chosen = np.random.default_rng(setup.seed).permutation(len(records))[:wanted]
    return with_records(source, [records[i] for i in sorted(chosen.tolist())])


def _calibration(setup: Export, kind: Kind, validation: Source) -> Iterable[Any]:
    """Batches of one image for int8."""
    if setup.precision != "int8":
        return ()
    source = calibration_source(setup, validation)
    return loader(kind, Preprocessing.of(setup.card), source, batch_size=1, num_workers=setup.num_workers)


def _spread(records: tuple[Any, ...], limit: int | None) -> tuple[Any, ...]:
    """At most ``limit`` of the records, evenly spread."""
    if limit is None or len(records) <= limit:
        return records
    return tuple(records[i] for i in np.linspace(0, len(records) - 1, limit).round().astype(int))


def _bytes(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
