"""python export.py: see conf/export.yaml for every key, and `python export.py --help`."""

import hydra
from omegaconf import DictConfig

from seg_det.commands import cli, composing


@hydra.main(version_base="1.3", config_path="conf", config_name="export")
def main(config: DictConfig) -> None:
    cli.run("export", config)


if __name__ == "__main__":
    composing.start(main, "export")
