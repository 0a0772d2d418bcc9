"""``python -m seg_det.anchors task=... dataset=...``: how well anchors cover the training objects, and ones that fit them."""

from seg_det.commands.entry import start

if __name__ == "__main__":
    start("anchors")
