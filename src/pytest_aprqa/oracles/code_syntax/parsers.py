"""Whether a parser accepts a text, where it stops, and where its constructs begin."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pytest_aprqa.domain.oracle_spec import Language
from pytest_aprqa.oracles.code_syntax.constructs import (
    CONSTRUCTS,
    SQL_RESERVED,
    plausible_commands,
)

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

CODE_LIMIT = 30_000
"""Longest code parsed, in characters: 800 lines, more than any answer of a test."""

WRAP_LIMIT = 8_000
"""Longest snippet tried inside a class or a function body; a longer one is no snippet."""


@dataclass(frozen=True, slots=True)
class Parse:
    """What a parser says: accepted, or the first error; and where real constructs start."""

    error: str = ""
    error_line: int = 0
    at_end: bool = False
    """The error is that the text ends too early."""
    constructs: tuple[int, ...] = ()
    """Character offsets at which constructs begin; empty for prose that happens to parse."""

    @property
    def accepted(self) -> bool:
        """True when the text is code: it parses, and holds a construct."""
        return not self.error and bool(self.constructs)


def parse(language: Language, code: str) -> Parse:
    """Return what the language's parser says of the code; it is never run."""
    if len(code) > CODE_LIMIT:
        return Parse(error=f"longer than {CODE_LIMIT} characters")
    if re.search("[\x00\ud800-\udfff]", code):
        return Parse(error="a NUL or lone surrogate is in no source text")
    if not code.strip():
        return Parse(error="it is empty")
    return _parse_python(code) if language == "python" else _parse_tree(language, code)


_EARLY_END = re.compile(
    r"was never closed|unterminated (?:triple-quoted )?(?:f-)?string|unexpected EOF|EOF while"
    r"|expected an indented block|expected ':'|f-string: expecting '}'|unexpected end"
)


def _parse_python(code: str) -> Parse:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except SyntaxError as problem:
        message, line = problem.msg or "invalid syntax", problem.lineno or 0
        cut = _python_cut(code, message, line, problem.offset or 0)
        return Parse(f"{message} (line {line})", line, at_end=cut)
    except (ValueError, RecursionError, MemoryError, OverflowError) as problem:
        return Parse(f"{type(problem).__name__}: {problem}")
    starts = _line_starts(code)
    lines = code.split("\n")
    places = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr) and _is_python_construct(node):
            line = node.lineno - 1
            column = len(lines[line].encode()[: node.col_offset].decode(errors="ignore"))
            places.append(starts[line] + column)
    return Parse(constructs=tuple(sorted(places)))


def _python_cut(code: str, message: str, line: int, offset: int) -> bool:
    lines = code.rstrip().split("\n")
    if "was never closed" in message or "triple-quoted" in message:
        return _deeper_to_the_end(lines, line - 1) or "triple-quoted" in message
    if line < len(lines):
        return False
    return bool(_EARLY_END.search(message)) or offset >= len(lines[-1])


def _deeper_to_the_end(lines: list[str], start: int) -> bool:
    """Tell a cut from a forgotten bracket: every line after the opening one is deeper."""
    depth = len(lines[start]) - len(lines[start].lstrip()) if start < len(lines) else 0
    return all(
        len(line) - len(line.lstrip()) > depth or not line.strip() or line.lstrip()[0] in ")]}"
        for line in lines[start + 1 :]
    )


def _is_python_construct(node: ast.stmt | ast.expr) -> bool:
    """Tell a statement or operation from a bare name, text or number, which prose can be."""
    if isinstance(node, ast.Expr):
        return False
    if isinstance(node, ast.Return):
        return node.value is not None
    if isinstance(node, ast.stmt):
        return not isinstance(node, ast.Pass | ast.Break | ast.Continue)
    return isinstance(
        node,
        ast.Call | ast.Compare | ast.Lambda | ast.ListComp | ast.DictComp | ast.SetComp
        | ast.GeneratorExp | ast.Await | ast.Yield | ast.Subscript | ast.IfExp | ast.BoolOp
        | ast.BinOp,
    )  # fmt: skip


def _line_starts(text: str) -> list[int]:
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    return starts


@cache
def _parser(language: str) -> Parser:
    """Return the tree-sitter parser, made once for each grammar."""
    from importlib import import_module

    from tree_sitter import Language as Grammar
    from tree_sitter import Parser as TreeParser

    package = "typescript" if language == "tsx" else language
    function = {"typescript": "language_typescript", "tsx": "language_tsx"}
    module = import_module(f"tree_sitter_{package}")
    return TreeParser(Grammar(getattr(module, function.get(language, "language"))()))


_WRAPS: dict[str, tuple[tuple[str, str], ...]] = {
    "javascript": (("class _ {\n", "\n}"), ("async function _() {\n", "\n}"), ("(", "\n)")),
    "typescript": (("class _ {\n", "\n}"), ("async function _() {\n", "\n}"), ("(", "\n)")),
    "rust": (("fn _f() {\n", "\n}"), ("impl _T {\n", "\n}")),
    "go": (("package p\nfunc _() {\n", "\n}"),),
    "java": (("class _ {\n", "\n}"), ("class _ { void _() {\n", "\n}}")),
    "c": (("void _f(void) {\n", "\n}"),),
    "cpp": (("void _f() {\n", "\n}"), ("struct _s {\n", "\n};")),
}
"""What a person takes as read around a snippet: the class of a method, the body of a statement."""


def _parse_tree(language: Language, code: str) -> Parse:
    first = _parse_plain(language, code)
    if not first.error:
        return first
    if language == "typescript":
        second = _parse_plain("tsx", code)
        if second.accepted:
            return second
    wraps = _WRAPS.get(language, ()) if len(code) <= WRAP_LIMIT else ()
    for before, after in wraps:
        wrapped = _parse_plain(language, before + code + after)
        if wrapped.error:
            continue
        inner = range(len(before), len(before) + len(code))
        places = tuple(at - len(before) for at in wrapped.constructs if at in inner)
        return Parse(constructs=places)
    return first


def _parse_plain(language: str, code: str) -> Parse:
    source = code.encode()
    root = _parser(language).parse(source).root_node
    if root.has_error:
        return _tree_error(root, source)
    wanted = CONSTRUCTS["typescript" if language == "tsx" else language]
    places: list[int] = []
    for node in _walk(root):
        if language == "sql" and (word := _reserved_name(node)):
            return Parse(f"{word} is used as a name", node.start_point[0] + 1)
        if node.type in wanted and node.is_named:
            places.append(len(source[: node.start_byte].decode(errors="ignore")))
    if language == "bash" and not plausible_commands(root):
        return Parse("its words are no commands", 1)
    return Parse(constructs=tuple(places[:2_000]))


def _walk(root: Node) -> list[Node]:
    nodes, pending = [], [root]
    while pending:
        node = pending.pop()
        nodes.append(node)
        pending.extend(node.children)
    return nodes


def _reserved_name(node: Node) -> str | None:
    """Find `SELECT FROM WHERE`, which the tolerant SQL grammar reads as columns."""
    if node.type != "identifier" or node.text is None:
        return None
    word = node.text.decode(errors="replace").upper()
    return word if word in SQL_RESERVED else None


def _tree_error(root: Node, source: bytes) -> Parse:
    errors = [node for node in _walk(root) if node.is_error or node.is_missing]
    if not errors:
        return Parse("it does not parse", 1)
    node = min(errors, key=lambda error: (error.start_byte, error.end_byte))
    line = node.start_point[0] + 1
    end = len(source.rstrip())
    at_end = any(error.end_byte >= end for error in errors)
    what = f"{node.type} is missing" if node.is_missing else "it does not parse"
    return Parse(f"{what} (line {line})", line, at_end=at_end)
