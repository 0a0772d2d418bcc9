"""``python evaluate.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from seg_det.commands.folders import command_line, newest_run, open_folder
from seg_det.commands.labelled_data import read_measured
from seg_det.commands.models import dataset_for, trained
from seg_det.commands.saved_config import measured_dataset
from seg_det.commands.schemas import EvaluationSchema, check
from seg_det.commands.settings import batch_size, tiles_of, workers
from seg_det.data.image_files import limit_pixels
from seg_det.data.records import Source
from seg_det.errors import UserError
from seg_det.evaluation.run import Destination, evaluate_model
from seg_det.files import relative
from seg_det.predict.exported import FilePredictor, Opened, is_exported, open_file
from seg_det.predict.loading import chosen_device, network_predictor
from seg_det.predict.predictor import Predictor
from seg_det.predict.tiles import TiledPredictor
from seg_det.report.terminal import figures, summary
from seg_det.run_log import LOG


def main(config: DictConfig) -> None:
    """``python evaluate.py``: the figures of a trained model on a labelled split."""
    check(config, EvaluationSchema)
    limit_pixels(config.data.max_pixels)
    reference = str(config.model or newest_run())
    predictor, network, source = _measured(reference, config)
    if (tiles := tiles_of(config.tiles)) is not None:
        predictor = TiledPredictor(predictor, tiles, batch_size=batch_size(config.data.batch_size))
    folder = open_folder("evaluate", predictor.card.name, config)
    device = chosen_device(config.device)
    LOG.keep("\n".join([*source.problems, f"measuring {source.name} on {_where(reference, device)}"]))
    record = evaluate_model(
        predictor,
        network,
        source,
        destination=Destination(folder, OmegaConf.to_yaml(config), command_line("evaluate", model=reference)),
        batch_size=batch_size(config.data.batch_size),
        num_workers=workers(config.data.num_workers),
        device=device,
        options=_evaluation_options(config, folder),
    )
    print(figures(record))
    print(summary(record, folder))


def _where(reference: str, device: torch.device) -> str:
    return "the CPU, by the runtime of the exported file" if is_exported(reference) else str(device)


def _measured(reference: str, config: DictConfig) -> tuple[Predictor, nn.Module, Source]:
    """What evaluate.py measures, its network, and on what."""
    if is_exported(reference):
        opened = open_file(Path(reference))
        _refuse_changes(opened, config)
        predictor = FilePredictor(opened)
        dataset = measured_dataset(config, _origin(opened, needed=not config.get("dataset")))
        return predictor, predictor.network, read_measured(dataset_for(dataset, opened.card), config, config.split)
    model, card, dataset = trained(reference, config)
    source = read_measured(dataset, config, config.split)
    return network_predictor(model, card, chosen_device(config.device)), model, source


def _origin(opened: Opened, *, needed: bool) -> Path | None:
    """The checkpoint that an exported file names, which lies below the working folder or one that the file lies in.

    Raises UserError where there is none though it is ``needed``.
    """
    path = opened.export.get("checkpoint", {}).get("path")
    if isinstance(path, str):
        found = (folder / path for folder in (Path.cwd(), *opened.path.absolute().parents))
        if (there := next((one for one in found if one.exists()), None)) is not None:
            return relative(there)
    if needed:
        named = f"the checkpoint {path}, which is not here" if isinstance(path, str) else "no checkpoint"
        raise UserError(f"The card of {opened.path} names {named}: say which data with dataset=.")
    return None


def _refuse_changes(opened: Opened, config: DictConfig) -> None:
    """Raise UserError for settings that cannot be changed any more in an exported file."""
    given = [f"postprocess.{key}" for key, value in config.postprocess.items() if value is not None]
    given += ["input_size"] if config.input_size is not None else []
    if given:
        raise UserError(f"{given[0]} is part of the exported {opened.path}: leave it out, or export anew with it.")


def _evaluation_options(config: DictConfig, folder: Path) -> dict[str, Any]:
    """What was asked of the evaluation beyond the usual."""
    options: dict[str, Any] = {"count_difficult": True} if config.count_difficult else {}
    if config.evaluator != "fast":
        options["evaluator"] = config.evaluator
    if config.save_predictions:
        options |= {"save_predictions": config.save_predictions, "folder": folder / "predictions"}
    return options
