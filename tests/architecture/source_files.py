"""The files of this checkout, parsed once, for the tests of its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
TESTS = ROOT / "tests"
TOOLS = ROOT / "tools"

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def told(path: Path) -> str:
    """How a failing test names the file: from the checkout's root."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(module: ast.Module) -> Iterator[FunctionNode]:
    return (node for node in ast.walk(module) if isinstance(node, FunctionNode))
