"""``python export.py``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from seg_det import checkpoint
from seg_det.checksums import sha256_of
from seg_det.commands.containers import unresolved
from seg_det.commands.folders import command_line, newest_run, open_folder
from seg_det.commands.labelled_data import read_measured
from seg_det.commands.models import trained
from seg_det.commands.schemas import ExportSchema, check
from seg_det.commands.settings import build, workers
from seg_det.data.image_files import limit_pixels
from seg_det.errors import UserError
from seg_det.origin import anonymous
from seg_det.predict.exported import is_exported
from seg_det.predict.lookup import task_of
from seg_det.predict.published import is_published
from seg_det.proof.sensitivity import search, search_text, sensitivity
from seg_det.proof.verification import Export, export_model
from seg_det.registry import TARGETS
from seg_det.report.terminal import export_summary
from seg_det.run_log import LOG
from seg_det.runs import EXPORT, ExportRecord
from seg_det.types import ModelCard
from seg_det.weights import resolve


def main(config: DictConfig) -> None:
    """``python export.py``: a file for a runtime, proved on images; exits with 1 where it is not the same model."""
    check(config, ExportSchema)
    limit_pixels(config.data.max_pixels)
    target = build(config.target, TARGETS)
    target.require()
    reference = str(config.model or newest_run())
    if is_exported(reference):
        raise UserError(f"{reference} is exported already: give the run or the checkpoint that it came from.")
    model, card, dataset = trained(reference, config)
    card = _resized(card, config.resize)
    path = resolve(reference) if is_published(reference) else checkpoint.find(reference)
    folder = open_folder("export", card.name, config)
    validation = read_measured(dataset, config, config.verification.split)
    LOG.keep("\n".join([*validation.problems, f"verifying on {validation.name}, on the CPU"]))
    setup = Export(
        target=target,
        model=model,
        card=card,
        checkpoint={"path": str(path), "sha256": sha256_of(path)},
        run=folder,
        validation=validation,
        pipeline=config.pipeline,
        precision=config.precision,
        calibration=read_measured(dataset, config, "train") if config.precision == "int8" else None,
        calibration_images=config.calibration.images,
        seed=config.seed,
        keep_float=tuple(config.keep_float),
        verified_images=config.verification.images,
        tolerance=config.tolerance,
        num_workers=workers(config.data.num_workers),
        config=OmegaConf.to_yaml(OmegaConf.create(anonymous(unresolved(config)))),
        command=command_line("export", model=reference, passed_on=True),
    )
    found = sensitivity(setup, config.sensitivity_images) if config.sensitivity else None
    record = search(setup, config.sensitivity_images, found) if config.search else export_model(setup)
    if config.search:
        print(search_text(record))
    _conclude(record, folder)


def _conclude(record: ExportRecord, folder: Path) -> None:
    """Print what came out and where it lies. Raises UserError for a rejected file."""
    print(export_summary(record))
    print("\n".join(f"{folder / name}" for name in [*record.files, EXPORT, "report.html"]))
    print("".join(f"{note}\n" for note in record.notes), end="")
    if (verified := record.verification) and not verified.accepted:
        raise UserError(
            f"{folder / record.files[0]} was rejected: its {verified.metric} is {verified.difference:.4f} from the "
            f"checkpoint's, and tolerance={verified.tolerance:g} is the most; set tolerance= to accept it."
        )


def _resized(card: ModelCard, rule: str | None) -> ModelCard:
    """``card`` with another rule of resizing, if one is given. Raises UserError for one that its task does not have."""
    if rule is None:
        return card
    if rule not in (known := task_of(card).resizes):
        raise UserError(f"resize must be one of {', '.join(known)} for {card.task}, got {rule!r}.")
    return card.replace(resize=rule)
