"""A command from its words: what is done before and around Hydra. Imports neither torch nor Lightning."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hydra
from omegaconf import DictConfig

from seg_det.commands import composing, recognising, running
from seg_det.installed import installed

# The commands that recognise the data in dataset.root, and whether they do it for the task of their model.
RECOGNISING = {"train": False, "anchors": False, "doctor": False, "evaluate": True}


def start(command: str, *, words: Sequence[str] | None = None, before: Sequence[str] = ()) -> list[Any]:
    """Run ``command`` with the arguments ``words``, by default those of the command line; returns what each job gave.

    ``before`` are the words of the command line between the program and those; they are in sys.argv while the command runs:
    Lightning starts the further processes of a training from it.
    """
    if words is not None:
        sys.argv = [sys.argv[0], *words]

    results: list[Any] = []

    @hydra.main(version_base="1.3", config_path=str(installed("conf")), config_name=command)
    def main(config: DictConfig) -> None:
        arguments = sys.argv[1:]  # which Hydra has read
        sys.argv[1:] = [*before, *arguments]
        try:
            results.append(running.run(command, config))
        finally:
            sys.argv[1:] = arguments

    complete: Callable[[Sequence[str]], list[str]] = list
    if command in RECOGNISING:
        complete = partial(recognising.with_recognised_data, of_model=RECOGNISING[command])
    composing.start(main, command, complete)
    return results
