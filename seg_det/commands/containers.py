"""Configurations as plain dictionaries."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf


def unresolved(config: DictConfig) -> dict[str, Any]:
    """``config`` as a dictionary, its references as they are written."""
    return cast(
        dict[str, Any], OmegaConf.to_container(config, resolve=False)
    )  # which gives a list only of a ListConfig


def resolved(config: DictConfig) -> dict[str, Any]:
    """``config`` as a dictionary, its references resolved. Raises an error of OmegaConf for a value that is missing."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
