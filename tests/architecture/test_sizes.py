from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.source_files import SRC, functions, python_files, told, tree

MODULE_LINES = 400
FUNCTION_LINES = 50


def long_functions(path: Path) -> list[str]:
    sized = ((node, (node.end_lineno or 0) - node.lineno + 1) for node in functions(tree(path)))
    return [f"{node.name}: {lines} lines" for node, lines in sized if lines > FUNCTION_LINES]


@pytest.mark.parametrize("path", python_files(SRC), ids=told)
def test_a_module_is_no_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("path", python_files(SRC), ids=told)
def test_a_function_is_no_longer_than_50_lines(path: Path) -> None:
    assert long_functions(path) == []


@pytest.mark.parametrize(("lines", "found"), [(50, []), (51, ["f: 51 lines"])])
def test_a_long_function_is_found(tmp_path: Path, lines: int, found: list[str]) -> None:
    path = tmp_path / "m.py"
    path.write_text("@d\ndef f():\n" + "    x = 1\n" * (lines - 1), encoding="utf-8")
    assert long_functions(path) == found
