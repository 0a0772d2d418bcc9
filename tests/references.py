"""Independent implementations that tests compare with. They are no dependency of the product.

They are fetched once into a folder of the cache, and not into the environment: torchvision's compiled operators fit one build
of torch only, and where they do not, Lightning cannot be imported beside it. Its Python part works all the same once the names
that it asks for are known to torch; no test calls one of these operators.
"""

import functools
import hashlib
import importlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from seg_det.weights.catalogue import cache_folder

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
VERSIONS = hashlib.sha256(f"{sys.version_info[:2]} {CONSTRAINTS.read_text()}".encode()).hexdigest()[:12]
FOLDER = cache_folder() / f"test-references-{VERSIONS}"  # one for all checkouts, which may be read-only
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
    folder = FOLDER / packages[0]
    if problem := _fetch(packages, folder):
        return problem
    sys.path.append(str(folder))
    try:
        if "torchvision" in packages:
            _name_missing_operators()
        importlib.import_module(packages[-1])
    except (ImportError, RuntimeError) as error:
        return f"{' and '.join(packages)} cannot be imported here: {error}"
    return None


def _fetch(packages, folder):
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        with FileLock(FOLDER / "lock"):  # of several test processes one fetches
            return None if folder.is_dir() else _install(packages, folder)
    except OSError as error:
        return f"{' and '.join(packages)} cannot be fetched: {error}"


def _install(packages, folder):
    with tempfile.TemporaryDirectory(dir=FOLDER) as part:
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--upgrade", "-c", str(CONSTRAINTS)]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", f"{part}/packages", *packages]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            return f"{' and '.join(packages)} cannot be fetched: {run.stderr.strip().splitlines()[-1]}"
        Path(part, "packages").rename(folder)
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
