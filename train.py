"""python train.py: see conf/train.yaml for every key, and `python train.py --help`."""

from seg_det.commands.entry import start

if __name__ == "__main__":
    start("train")
