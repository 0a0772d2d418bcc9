"""python predict.py: see conf/predict.yaml for every key, and `python predict.py --help`."""

from seg_det.commands.entry import start

if __name__ == "__main__":
    start("predict")
