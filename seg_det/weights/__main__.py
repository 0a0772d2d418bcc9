"""``python -m seg_det.weights FILE``: see :mod:`seg_det.commands.weights`."""

import sys

from seg_det.commands.weights import main

if __name__ == "__main__":
    sys.exit(main())
