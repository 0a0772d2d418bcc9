"""Independent implementations that tests compare with. They are no dependency of the product.

They live in a folder of their own, fetched once, and not in the environment: torchvision's compiled operators fit one build of
torch only, and where they do not, Lightning cannot be imported beside it. Its Python part works all the same once the names
that it asks for are known to torch; no test calls one of these operators.
"""

import functools
import importlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".references"
# What is fetched and imported together; the last imports the others.
PACKAGES = (("torchvision", "timm"), ("pyquaternion", "cityscapesscripts"))

BOXES = "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width"
GRAD = "Tensor grad, Tensor rois, "
SIZES = ", SymInt batch_size, SymInt channels, SymInt height, SymInt width)"
POOL = "float spatial_scale, SymInt pooled_height, SymInt pooled_width"
DEFORM = (
    "Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, SymInt pad_h, "
    "SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask)"
)
OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align{BOXES}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward({GRAD}{POOL}{SIZES[:-1]}, int sampling_ratio, bool aligned) -> Tensor",
    f"ps_roi_align{BOXES}, int sampling_ratio) -> (Tensor, Tensor)",
    f"_ps_roi_align_backward({GRAD}Tensor channel_mapping, {POOL}, int sampling_ratio{SIZES} -> Tensor",
    f"roi_pool{BOXES}) -> (Tensor, Tensor)",
    f"_roi_pool_backward({GRAD}Tensor argmax, {POOL}{SIZES} -> Tensor",
    f"ps_roi_pool{BOXES}) -> (Tensor, Tensor)",
    f"_ps_roi_pool_backward({GRAD}Tensor channel_mapping, {POOL}{SIZES} -> Tensor",
    f"deform_conv2d({DEFORM} -> Tensor",
    f"_deform_conv2d_backward(Tensor grad, {DEFORM} -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def reference(name):
    """The module of an independent implementation; the test is skipped, with the reason, where it cannot be had."""
    group = next(packages for packages in PACKAGES if name.split(".")[0] in packages)
    if problem := _provide(group):
        pytest.skip(problem)
    return importlib.import_module(name)


@functools.cache
def _provide(packages):
    """Make the references importable; returns what is in the way, None for nothing."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    if any(importlib.util.find_spec(package) is None for package in packages) and (problem := _fetch(packages)):
        return problem
    try:
        if "torchvision" in packages:
            _name_missing_operators()
        importlib.import_module(packages[-1])
    except (ImportError, RuntimeError) as error:
        return f"{' and '.join(packages)} cannot be imported here: {error}"
    return None


def _fetch(packages):
    part = FOLDER.with_name(f".references.{packages[0]}.part")
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--upgrade", "-c", str(ROOT / "constraints.txt")]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(part), *packages]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        return f"{' and '.join(packages)} cannot be fetched: {run.stderr.strip().splitlines()[-1]}"
    FOLDER.mkdir(exist_ok=True)
    for entry in part.iterdir():
        if not (FOLDER / entry.name).exists():
            entry.rename(FOLDER / entry.name)
    shutil.rmtree(part)
    importlib.invalidate_caches()
    return None


_libraries = []  # torch forgets the operators of a library that is collected


def _name_missing_operators():
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for loaded in [module for module in sys.modules if module.split(".")[0] == "torchvision"]:
            del sys.modules[loaded]
        _libraries.append(torch.library.Library("torchvision", "DEF"))
        for schema in OPERATORS:
            _libraries[0].define(schema)
