"""The picture of the house, executable: imports point down only, and each heavy library has its room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "seg_det"
# The higher the number, the nearer to the user. A room imports from lower rooms and from its own.
RANK = {
    "values": 0, "types": 0, "registry": 0, "files": 0, "checksums": 0,
    "download": 1, "archives": 1, "ops": 1, "nn": 1,
    "models": 2, "losses": 2, "postprocess": 2, "metrics": 2, "data": 2,
    "weights": 2, "checkpoint": 2,
    "export": 3, "report": 3,
    "tasks": 4,
    "sweep": 5, "verbs": 5, "cli": 5, "anchors": 5,
}  # fmt: skip
ONLY_IN = {
    "lightning": {"tasks", "verbs"},
    "hydra": {"cli", "sweep", "verbs", "anchors"},
    "omegaconf": {"cli", "sweep", "verbs", "anchors"},
    "albumentations": {"data"},
    "cv2": {"data", "report"},
    "pycocotools": {"data", "metrics"},
    "torchvision": set(),
    "timm": {"models"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "onnxscript": {"export"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the room instead"
            names.add(node.module)
            if node.module == "seg_det":
                names |= {f"seg_det.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path):
    room = room_of(path)
    if room == "__init__":
        return
    for name in imported(path):
        top, _, rest = name.partition(".")
        if top == "seg_det" and rest and not rest.startswith("__"):
            other = rest.split(".")[0]
            assert other == room or RANK[other] <= RANK[room], f"{room} must not import {other}"
        if top in ONLY_IN:
            assert room in ONLY_IN[top], f"{top} belongs in {sorted(ONLY_IN[top]) or 'no room'}, not in {room}"


def test_albumentations_stands_behind_one_file():
    users = [p.name for p in MODULES if any(n.split(".")[0] == "albumentations" for n in imported(p))]
    assert users == ["transforms.py"]


def test_models_can_be_lifted_out():
    besides = {"timm_features.py": {"timm", "difflib", "types"}}  # the one file that stands on a library of networks
    for path in [p for p in MODULES if room_of(p) in ("models", "nn", "ops")]:
        tops = {n.split(".")[0] for n in imported(path)} - besides.get(path.name, set())
        assert tops <= {"seg_det", "torch", "math", "typing", "collections", "functools", "__future__", "itertools"}, (
            path
        )


def test_entry_points_are_thin():
    for path in ROOT.glob("*.py"):
        assert len(path.read_text().splitlines()) < 60, path
