"""DESIGN's layers, executable: imports go to the same layer or below, packages form no cycle, heavy libraries have one place."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "seg_det"
LAYERS = (
    {"errors", "values", "types", "registry", "files", "installed", "checksums", "sidecar", "migrations",
     "facts", "runs", "origin", "run_log", "progress", "quiet", "checkpoint", "download", "archives", "ops", "nn"},
    {"data", "losses", "media", "models", "postprocess"},
    {"predict", "export", "report", "metrics", "weights", "anchors", "doctor"},
    {"automatic", "training", "proof", "evaluation", "kinds"},
    {"commands"},
)  # fmt: skip
LAYER = {name: height for height, names in enumerate(LAYERS) for name in names}
ONLY_IN = {
    "lightning": {"training", "commands"},
    "hydra": {"commands"},
    "omegaconf": {"commands"},
    "albumentations": {"data"},
    "cv2": {"data", "doctor", "media", "predict", "report"},
    "pycocotools": {"data", "metrics", "predict"},
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
            assert node.level == 0, f"{path}: relative import; name the package instead"
            names.add(node.module)
            if node.module == "seg_det":
                names |= {f"seg_det.{alias.name}" for alias in node.names}
    return names


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_entry_point(path: Path) -> bool:
    return path.name in ("__main__.py", "__init__.py") and (path.name == "__main__.py" or path.parent == PACKAGE)


def own_packages(path: Path) -> set[str]:
    """The packages and modules of the first level that a file imports, without its own."""
    found = {name.split(".")[1] for name in imported(path) if name.startswith("seg_det.")}
    return {name for name in found if not name.startswith("__")} - {package_of(path)}


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        if not is_entry_point(path):
            edges.setdefault(package_of(path), set()).update(own_packages(path))
    return edges


def test_every_package_has_a_layer():
    assert {package_of(path) for path in MODULES} - {"__init__", "__main__"} == set(LAYER)


@pytest.mark.parametrize(
    "path", [p for p in MODULES if not is_entry_point(p)], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_go_down(path):
    own = package_of(path)
    for other in own_packages(path):
        assert LAYER[other] <= LAYER[own], f"{own} must not import {other}"
    for top in {name.split(".")[0] for name in imported(path)} & set(ONLY_IN):
        assert own in ONLY_IN[top], f"{top} belongs in {sorted(ONLY_IN[top]) or 'no package'}, not in {own}"


def test_packages_form_no_cycle():
    edges, done = graph(), set()
    while ready := {name for name, needs in edges.items() if name not in done and needs <= done}:
        done |= ready
    assert not {name: needs - done for name, needs in edges.items() if name not in done}


KINDS = {"detection", "segmentation", "classification"}
# Where a setting of the networks has values of the same names: reduced_tail, the papers' variants for detection and segmentation.
OTHER_MEANING = {"models"}


def constants(node: ast.AST) -> set[object]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_kinds_of_tasks_are_told_apart_in_two_places(path):
    if package_of(path) in {"predict", "kinds"} | OTHER_MEANING:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare):
            assert not constants(node) & KINDS, f"line {node.lineno}: ask the Task or the Kind instead"
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)} & KINDS
            assert len(keys) < 2, f"line {node.lineno}: a field of Task or Kind instead"


def test_albumentations_stands_behind_one_file():
    users = [p.name for p in MODULES if any(n.split(".")[0] == "albumentations" for n in imported(p))]
    assert users == ["steps.py"]


def test_models_can_be_lifted_out():
    besides = {"timm_features.py": {"timm", "difflib", "types"}}  # the one file that stands on a library of networks
    for path in [p for p in MODULES if package_of(p) in ("models", "nn", "ops")]:
        tops = {n.split(".")[0] for n in imported(path)} - besides.get(path.name, set())
        assert tops <= {
            "seg_det",
            "torch",
            "math",
            "typing",
            "collections",
            "functools",
            "__future__",
            "itertools",
            "abc",
        }, path


def test_entry_points_are_thin():
    for path in [*ROOT.glob("*.py"), *(p for p in MODULES if is_entry_point(p))]:
        assert len(path.read_text().splitlines()) < 60, path


def test_text_files_are_read_and_written_as_utf_8():
    """Windows would take its code page otherwise."""
    lacking = []
    for path in [*MODULES, *(ROOT / "datasets").glob("*.py"), *ROOT.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = {keyword.arg for keyword in node.keywords}
                modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                text = node.func.attr in ("read_text", "write_text")
                opened = node.func.attr == "open" and not any("b" in str(mode) for mode in modes) and not node.args
                if (text or (opened and isinstance(node.func.value, ast.Name))) and "encoding" not in given:
                    lacking.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not lacking, "\n".join(lacking)
