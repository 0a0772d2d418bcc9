"""What ``model=`` means to the commands that use a trained model, and the labelled data that goes with it."""

from __future__ import annotations

from omegaconf import DictConfig
from torch import nn

from seg_det import checkpoint
from seg_det.commands.labelled_data import read_measured
from seg_det.commands.saved_config import measured_dataset
from seg_det.commands.settings import height_and_width, plain
from seg_det.errors import UserError
from seg_det.predict.lookup import task_of
from seg_det.predict.published import is_published, load_published
from seg_det.types import ModelCard


def trained(reference: str, config: DictConfig) -> tuple[nn.Module, ModelCard, DictConfig]:
    """The model that ``reference`` means, its card with what was said on the command line, and its data set."""
    if is_published(reference):
        dataset = _named_dataset(config)
        split = config.get("split") or config.verification.split
        model, card = load_published(reference, read_measured(dataset, config, split).categories)
    else:
        path = checkpoint.find(reference)
        model, card = checkpoint.load(path)
        task_of(card, f"The card of {path}", model)
        dataset = dataset_for(measured_dataset(config, path), card)
    card = _with_postprocess(card, config.postprocess)
    if config.input_size is not None:
        card = card.replace(input_size=height_and_width(config.input_size, "input_size"))
    return model, card, dataset


def dataset_for(dataset: DictConfig, card: ModelCard) -> DictConfig:
    """A data set that can be read for several kinds of task, told which."""
    if "kind" in dataset:
        dataset.kind = card.task
    return dataset


def _named_dataset(config: DictConfig) -> DictConfig:
    if not config.get("dataset"):
        raise UserError(
            f"{config.model} was not trained here: say which data with dataset=imagefolder dataset.root=..."
        )
    return config.dataset


def _with_postprocess(card: ModelCard, changes: DictConfig) -> ModelCard:
    given = {key: value for key, value in plain(changes).items() if value is not None}
    if unknown := [key for key in given if key not in card.postprocess]:
        known = f"it has {', '.join(card.postprocess)}" if card.postprocess else "it has none"
        raise UserError(f"{card.name} has no postprocess.{unknown[0]}: {known}.")
    return card.replace(postprocess={**card.postprocess, **given})
