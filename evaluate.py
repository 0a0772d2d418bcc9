"""python evaluate.py: see conf/evaluate.yaml for every key, and `python evaluate.py --help`."""

from seg_det.commands.entry import start

if __name__ == "__main__":
    start("evaluate")
