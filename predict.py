"""python predict.py: see conf/predict.yaml for every key, and `python predict.py --help`."""

import hydra
from omegaconf import DictConfig

from seg_det.commands import cli, composing


@hydra.main(version_base="1.3", config_path="conf", config_name="predict")
def main(config: DictConfig) -> None:
    cli.run("predict", config)


if __name__ == "__main__":
    composing.start(main, "predict")
