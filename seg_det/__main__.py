"""``python -m seg_det COMMAND ...``: see :mod:`seg_det.commands.console`."""

import sys

from seg_det.commands.console import main

if __name__ == "__main__":
    sys.exit(main())
