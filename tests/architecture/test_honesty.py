"""Nothing is swallowed, and no test passes without having looked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source_files import (
    ROOT,
    SRC,
    TESTS,
    TOOLS,
    FunctionNode,
    functions,
    python_files,
    told,
    tree,
)

_BROAD = {"Exception", "BaseException"}
_LOOKS = {"raises", "warns", "deprecated_call", "fail"}
"""Of pytest's own: what makes a test fail."""
_LOOKING_METHODS = {"assert_outcomes", "fnmatch_lines", "fnmatch_lines_random", "no_fnmatch_line"}
_HELPER_PREFIXES = ("assert_", "check_", "expect_")


def swallowing(module: ast.Module) -> Iterator[int]:
    """Lines where an error disappears: an empty handler, or a broad suppress."""
    for node in ast.walk(module):
        if isinstance(node, ast.ExceptHandler) and all(map(_is_nothing, node.body)):
            yield node.lineno
        if (
            isinstance(node, ast.Call)
            and _name(node.func) == "suppress"
            and any(_name(argument) in _BROAD for argument in node.args)
        ):
            yield node.lineno


def _is_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def empty_asserts(module: ast.Module) -> Iterator[int]:
    """Lines of asserts that cannot fail."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assert) and _is_true_by_form(node.test):
            yield node.lineno


def _is_true_by_form(test: ast.expr) -> bool:
    if isinstance(test, ast.Tuple):
        return bool(test.elts)
    return isinstance(test, ast.Constant) and bool(test.value)


def blind_tests(module: ast.Module) -> list[str]:
    """Tests that look at nothing, neither themselves nor by a helper of their module."""
    helpers = {node.name: node for node in functions(module)}
    looking = {name for name, node in helpers.items() if _looks(node, frozenset())}
    while more := {n for n, node in helpers.items() if _looks(node, looking)} - looking:
        looking |= more
    return [n for n in helpers if n.startswith("test_") and n not in looking]


def _looks(function: FunctionNode, looking: set[str] | frozenset[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = _name(node.func)
            if name in _LOOKS | _LOOKING_METHODS | looking or name.startswith(_HELPER_PREFIXES):
                return True
    return False


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@pytest.mark.parametrize("path", python_files(SRC, TOOLS, TESTS), ids=told)
def test_no_error_is_swallowed(path: Path) -> None:
    assert list(swallowing(tree(path))) == []


@pytest.mark.parametrize("path", python_files(SRC, TOOLS, TESTS), ids=told)
def test_no_assert_is_empty(path: Path) -> None:
    assert list(empty_asserts(tree(path))) == []


@pytest.mark.parametrize("path", [p for p in python_files(TESTS) if "test" in p.stem], ids=told)
def test_every_test_looks_at_something(path: Path) -> None:
    assert blind_tests(tree(path)) == []


_WORDS = ("/wo" + "rk/", "/tmp/" + "dev", "ances" + "tor")
"""Spelled in parts, or this file would hold them."""
_PLACES = ("src", "tests", "docs", "tools", "playbooks")
_BINARY = {".safetensors", ".gguf", ".apr", ".pyc", ".png", ".gz"}


def texts() -> list[Path]:
    within = [path for place in _PLACES for path in (ROOT / place).rglob("*")]
    files = [path for path in (*within, *ROOT.glob("*.md"), *ROOT.glob("*.toml")) if path.is_file()]
    return sorted(p for p in files if p.suffix not in _BINARY and "__pycache__" not in p.parts)


def test_no_file_names_the_place_where_it_was_written() -> None:
    found = [
        f"{told(path)}: {word}"
        for path in texts()
        for word in _WORDS
        if word.encode() in path.read_bytes().lower()
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("try: f()\nexcept Exception: pass", [2]),
        ("try: f()\nexcept ValueError:\n    'never mind'", [2]),
        ("try: f()\nexcept: ...", [2]),
        ("with suppress(Exception): f()", [1]),
        ("with contextlib.suppress(OSError, BaseException): f()", [1]),
        ("with suppress(FileNotFoundError): f()", []),
        ("try: f()\nexcept OSError: g()", []),
    ],
)
def test_a_swallowed_error_is_found(code: str, lines: list[int]) -> None:
    assert list(swallowing(ast.parse(code))) == lines


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("assert True", [1]),
        ("assert 1, 'text'", [1]),
        ("assert (x, 'text')", [1]),
        ("assert False", []),
        ("assert x", []),
    ],
)
def test_an_assert_that_cannot_fail_is_found(code: str, lines: list[int]) -> None:
    assert list(empty_asserts(ast.parse(code))) == lines


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("def test_a(): f()", ["test_a"]),
        ("def test_a(): assert f()", []),
        ("def test_a():\n    with pytest.raises(E): f()", []),
        ("def test_a(): result.assert_outcomes(passed=1)", []),
        ("def test_a(): helper()\ndef helper(): inner()\ndef inner(): assert x", []),
        ("def test_a(): helper()\ndef helper(): inner()\ndef inner(): x", ["test_a"]),
        ("class TestA:\n    def test_b(self): f()", ["test_b"]),
    ],
)
def test_a_test_that_looks_at_nothing_is_found(code: str, found: list[str]) -> None:
    assert blind_tests(ast.parse(code)) == found
