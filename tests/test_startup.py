"""Which libraries an import or a command's --help may load: what keeps the start short on any machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PRINT = """
import json, sys
found = {name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(json.dumps(sorted(found - set(sys.stdlib_module_names))))
"""
HELP = """
import contextlib, io, runpy, sys
sys.argv = ["{command}.py", "--help"]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    runpy.run_path("{command}.py", run_name="__main__")
"""
HYDRA = {"hydra", "hydra_plugins", "omegaconf", "yaml", "antlr4", "attr", "packaging", "pydevd_plugins"}
# torch itself brings some; requests and filelock fetch published weights.
PREDICT = {
    "torch", "torchgen", "numpy", "PIL", "cv2", "safetensors", "tqdm", "typing_extensions", "filelock", "opt_einsum",
    "requests", "urllib3", "certifi", "charset_normalizer", "idna", "chardet", "sympy", "mpmath", "jinja2", "networkx",
    "backports", "cython_runtime", "pydot", "pyparsing", "fsspec", "setuptools", "defusedxml", "markupsafe", "socks",
}  # fmt: skip


def loaded(code):
    """The packages outside of the standard library that ``code`` loads in a new interpreter."""
    words = [sys.executable, "-W", "ignore", "-c", code + PRINT]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    names = {name for name in json.loads(done.stdout) if not name.startswith(("_", "sitecustomize", "distutils"))}
    return names - {name for name in names if name.startswith(("coverage", "pytest"))}


def test_importing_the_package_loads_nothing():
    assert loaded("import seg_det") == {"seg_det"}


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "export"])
def test_help_loads_no_torch(command):
    assert loaded(HELP.format(command=command)) <= {"seg_det", *HYDRA}


def test_prediction_loads_neither_training_nor_augmentation():
    found = loaded("import seg_det; seg_det.load")
    assert found - {"seg_det", *PREDICT} == set()


def test_the_prediction_command_loads_neither_training_nor_augmentation():
    found = loaded("import seg_det.commands.predict")
    assert not found & {"lightning", "torchmetrics", "transformers", "tensorboard", "albumentations"}


def test_evaluation_and_export_load_no_lightning():
    found = loaded("import seg_det.commands.evaluate, seg_det.commands.export")
    assert "albumentations" in found and not found & {"lightning", "torchmetrics", "transformers", "tensorboard"}
