"""A command from its words: what is done before and around Hydra. Imports neither torch nor Lightning."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from seg_det.commands import cli, pointing
from seg_det.installed import installed

# The commands that recognise the data in dataset.root, and whether they do it for the task of their model.
POINTED = {"train": False, "anchors": False, "doctor": False, "evaluate": True}


def start(command: str, *, words: Sequence[str] | None = None, before: Sequence[str] = ()) -> None:
    """Run ``command`` with the arguments ``words``, by default those of the command line.

    ``before`` are the words of the command line between the program and those; they stay in sys.argv while the command runs:
    Lightning starts the further processes of a training from it.
    """
    words = list(sys.argv[1:] if words is None else words)
    if command in POINTED:
        words = pointing.point_at_data(words, of_model=POINTED[command])
    whole = [sys.argv[0], *before, *words]

    @hydra.main(version_base="1.3", config_path=str(installed("conf")), config_name=command)
    def main(config: DictConfig) -> None:
        sys.argv = whole
        cli.run(command, config)

    sys.argv = [sys.argv[0], *words]  # which Hydra parses
    try:
        main()
    finally:
        sys.argv = whole
