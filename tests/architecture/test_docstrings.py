from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source_files import SRC, FunctionNode, python_files, told, tree


def undocumented(module: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(module):
        yield "the module"
    yield from _in(module.body, "")


def _in(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.ClassDef | FunctionNode) or node.name.startswith("_"):
            continue
        name = f"{prefix}{node.name}"
        if not ast.get_docstring(node):
            yield name
        if isinstance(node, ast.ClassDef):
            yield from _in(node.body, f"{name}.")


@pytest.mark.parametrize("path", python_files(SRC), ids=told)
def test_a_module_and_all_that_is_public_in_it_is_documented(path: Path) -> None:
    assert list(undocumented(tree(path))) == []


def test_what_is_not_documented_is_found() -> None:
    module = ast.parse("def f(): ...\ndef _g(): ...\nclass C:\n    'c'\n    def m(self): ...\n")
    assert list(undocumented(module)) == ["the module", "f", "C.m"]
