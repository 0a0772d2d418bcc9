"""``python -m seg_det.weights FILE``: what a file, a published name or an address holds, and which settings it fits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from seg_det.checkpoint import find
from seg_det.errors import UserError
from seg_det.weights import CATALOGUE, describe, resolve


def main(argv: Sequence[str] | None = None) -> int:
    """Print what a file, a published name or an address holds; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m seg_det.weights", description="Say what a weights file holds.")
    parser.add_argument("weights", metavar="FILE", help=f"a file, an http(s) address, or one of {', '.join(CATALOGUE)}")
    try:
        path = resolve(parser.parse_args(argv).weights)
        print(describe(find(path) if path.is_dir() else path))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
