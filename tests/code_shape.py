"""How long the package's functions and files are, how many arguments and branches functions have.

python -m tests.code_shape            # of this checkout
python -m tests.code_shape /old/tree  # of another one
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from statistics import median
from typing import NamedTuple

BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.Assert)


class Function(NamedTuple):
    """A function and its sizes; nested functions count by themselves and in the one around them."""

    file: Path
    name: str
    lines: int  # without decorators and docstring
    arguments: int  # without self and cls
    complexity: int  # McCabe's: 1 and one for each branch


def functions_of(file: Path) -> list[Function]:
    """All functions and methods of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [Function(file, node.name, _lines(node), _arguments(node), _complexity(node)) for node in nodes]


def _lines(node: ast.FunctionDef) -> int:
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= first.end_lineno - first.lineno + 1
    return lines


def _arguments(node: ast.FunctionDef) -> int:
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def _complexity(node: ast.AST) -> int:
    found = 1
    for part in ast.walk(node):
        found += isinstance(part, BRANCHES)
        found += len(part.values) - 1 if isinstance(part, ast.BoolOp) else 0
    return found


def main(root: Path) -> None:
    """Print the sizes of the package below ``root``."""
    files = sorted((root / "seg_det").rglob("*.py"))
    found = [function for file in files for function in functions_of(file)]
    lines, sizes = sorted(f.lines for f in found), [len(file.read_text().splitlines()) for file in files]
    print(f"{len(files)} files, {sum(sizes)} lines, the longest {max(sizes)}, {sum(s > 300 for s in sizes)} above 300")
    print(
        f"{len(found)} functions: median {median(lines):g} lines, p90 {lines[int(0.9 * len(lines))]}, longest {lines[-1]}"
    )
    print(f"arguments: most {max(f.arguments for f in found)}, more than 8: {sum(f.arguments > 8 for f in found)}")
    print(f"complexity: most {max(f.complexity for f in found)}, 12 or more: {sum(f.complexity >= 12 for f in found)}")
    for f in sorted(found, key=lambda f: -f.complexity):
        if f.lines > 60 or f.arguments > 8 or f.complexity >= 12:
            print(f"  {f.file.relative_to(root)} {f.name}: {f.lines} lines, {f.arguments} arguments, {f.complexity}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve())
