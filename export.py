"""python export.py: see conf/export.yaml for every key, and `python export.py --help`."""

from seg_det.commands.entry import start

if __name__ == "__main__":
    start("export")
