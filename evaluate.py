"""python evaluate.py: see conf/evaluate.yaml for every key, and `python evaluate.py --help`."""

import hydra
from omegaconf import DictConfig

from seg_det.commands import cli, composing


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(config: DictConfig) -> None:
    cli.run("evaluate", config)


if __name__ == "__main__":
    composing.start(main, "evaluate")
