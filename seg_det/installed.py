"""Where files lie that a checkout has beside the package and a wheel within it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def installed(name: str) -> Path:
    """The folder ``name``: "conf" or "datasets", of the wheel where it has one, else of the checkout.

    Raises FileNotFoundError where there is neither.
    """
    for folder in (PACKAGE / name, PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the installation of seg_det is incomplete: there is no {PACKAGE / name}")


def program(command: str) -> str:
    """How ``command`` is typed: "python train.py" where the checkout is, else "seg-det train"."""
    script = f"{command}.py"
    return f"python {script}" if (PACKAGE.parent / script).is_file() else f"seg-det {command}"
