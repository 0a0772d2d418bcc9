"""``python -m seg_det.anchors``: from a training configuration to fitted anchors in a file."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor

from seg_det import checkpoint
from seg_det.anchors.fit import fit_shapes
from seg_det.anchors.grid import Grid
from seg_det.commands.anchor_files import KEY, write_anchors
from seg_det.commands.folders import named_folder, run_name
from seg_det.commands.labelled_data import read_source
from seg_det.commands.network import model_settings, with_anchors
from seg_det.commands.schemas import TrainingSchema, check
from seg_det.commands.settings import height_and_width, plain, with_preferences
from seg_det.data.image_files import limit_pixels
from seg_det.data.objects import input_boxes, why_none
from seg_det.data.records import DetectionSource
from seg_det.errors import UserError
from seg_det.installed import program
from seg_det.metrics.coverage import Coverage, coverage
from seg_det.ops.anchors import anchored
from seg_det.report.tables import format_table

MapShapes = Sequence[Sequence[tuple[float, float]]]  # scale and width / height of the anchors of each map


def main(config: DictConfig) -> None:
    """Print how well the present and the fitted anchors cover the training objects, and write the fitted ones.

    Raises UserError for a task without anchors and data without boxes.
    """
    if not isinstance(config.task, DictConfig) or "anchor_shapes" not in (config.task.get("model") or ()):
        raise UserError(
            f"task={config.choices.task} has no anchors: choose a detector, such as task=ssdlite or task=ssd."
        )
    check(config, TrainingSchema)
    _check(config.fit)
    config = with_preferences(with_anchors(config))
    limit_pixels(config.data.max_pixels)
    source = read_source(config.dataset, "train")
    if not isinstance(source, DetectionSource):
        raise UserError(
            f"{source.name} does not hold boxes: choose dataset=coco, voc, custom_coco, custom_voc or shapes."
        )
    size = height_and_width(config.data.size)
    boxes = input_boxes(source.records, size)
    if not len(boxes):
        raise UserError(why_none(source.name, source.records, size))
    model = anchored(checkpoint.build_model({**model_settings(config), "num_classes": len(source.categories)}))
    grid = Grid(tuple(model.map_sizes(size)), size, model.anchor_rule)
    torch.set_num_threads(1)  # on tensors this small, several wait for each other
    start = time.perf_counter()
    fitted = fit_shapes(boxes, grid, model.anchor_shapes, **plain(config.fit), seed=config.seed)
    iou = config.fit.iou
    recall = f"recall is the share that reaches IoU {iou}"
    table = format_table(_rows(boxes, grid, {"present": model.anchor_shapes, "fitted": fitted}, iou))
    title = f"{source.name}, {len(boxes)} objects in {len(source.records)} images at {size[0]} x {size[1]}"
    path = named_folder("anchors", run_name(config)) / "anchors.yaml"
    command = _command(path)
    write_anchors(path, fitted, f"Fitted to {title}; {recall}.\n\n{table}\n\n  {command}")
    print(f"{title}, fitted in {time.perf_counter() - start:.1f} s; {recall}\n\n{table}\n")
    print(f"anchors     {path}\nnext        {command}")


def _check(fit: DictConfig) -> None:
    if not 0 < fit.iou < 1:
        raise UserError(f"fit.iou must lie between 0 and 1, got {fit.iou}.")
    for key in ("objects", "rounds"):
        if not isinstance(fit[key], int) or fit[key] < 1:
            raise UserError(f"fit.{key} must be a whole number from 1, got {fit[key]}.")


def _rows(boxes: Tensor, grid: Grid, anchors: Mapping[str, MapShapes], iou: float) -> list[dict[str, object]]:
    """A row for each size of objects, with the figures of all ``anchors`` side by side."""
    found = {name: coverage(boxes, grid.best(boxes, shapes), iou) for name, shapes in anchors.items()}
    sizes = next(iter(found.values()))
    return [
        {"size": size, "objects": sizes[size].objects}
        | {column: value for name, rows in found.items() for column, value in _columns(name, rows[size]).items()}
        for size in sizes
    ]


def _columns(name: str, row: Coverage) -> dict[str, str | None]:
    figures = {f"recall, {name}": row.recall, f"mean IoU, {name}": row.mean_iou}
    return {column: None if value is None else f"{value:.3f}" for column, value in figures.items()}


def _command(path: Path) -> str:
    """The training that these arguments meant, with the anchors of ``path``."""
    ours = ("fit.", KEY)
    given = [word for word in HydraConfig.get().overrides.task if not word.lstrip("+~").startswith(ours)]
    return shlex.join([*program("train").split(), *given, f"{KEY}={path}"])
