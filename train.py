"""python train.py: see conf/train.yaml for every key, and `python train.py --help`."""

import hydra
from omegaconf import DictConfig

from seg_det.commands import cli, composing, pointing


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(config: DictConfig) -> None:
    cli.run("train", config)


if __name__ == "__main__":
    composing.start(main, "train", pointing.point_at_data)
