"""What a run was made on: versions and hardware, without the names of users, machines and folders."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from seg_det import __version__
from seg_det.facts import Environment

CPU_INFO = Path("/proc/cpuinfo")  # of Linux; elsewhere the platform module knows what it knows


def environment(device: torch.device | str = "cpu") -> Environment:
    """What the program runs on; ``gpu`` is that of ``device``, None for one that is no CUDA device."""
    return Environment(
        seg_det=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=str(device),
        gpu=torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else None,
    )


def _processor() -> str | None:
    """The model of the processor; None where the system does not say."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, None) or platform.processor() or None
