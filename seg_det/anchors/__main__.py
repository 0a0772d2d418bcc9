"""``python -m seg_det.anchors task=... dataset=...``: how well anchors cover the training objects, and ones that fit them."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from seg_det.commands import cli, composing

CONF = Path(__file__).resolve().parents[2] / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="anchors")
def main(config: DictConfig) -> None:
    cli.run("anchors", config)


if __name__ == "__main__":
    composing.start(main, "anchors")
