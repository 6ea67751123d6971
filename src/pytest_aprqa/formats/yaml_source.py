"""YAML text as plain data that knows its lines: YAML 1.2 words, bounded size, no surprises."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from pytest_aprqa.domain.playbook import Mistake

MAX_BYTES = 1 << 20
MAX_NODES = 20_000
MAX_DEPTH = 40
MAX_DIGITS = 18

_TAG = "tag:yaml.org,2002:"
_SURROGATE = re.compile("[\ud800-\udfff]")


class Unreadable(Exception):
    """The text is no YAML document this reader takes; `line` is where, the message is why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(slots=True)
class Source:
    """A document's data with, for every key and item, its line and, unless text, its spelling."""

    data: Any = None
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    spellings: dict[tuple[str | int, ...], str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    mistake_lines: dict[int, int] = field(default_factory=dict)
    """Line of a mistake, by its index, where it is not the line of its path."""
    nodes: int = 0


class _Resolver(BaseResolver):
    """The words of YAML 1.2: `yes` and `1:30` are text, `1e-5` is a number."""


for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Resolver.add_implicit_resolver(
        f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})\\Z"), list(_first)
    )


class _Loader(Reader, Scanner, Parser, Composer, _Resolver):
    """Composes nodes only; nothing in the text can construct an object."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)
        self._depth = 0
        self._count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As the base class, within the limits of depth and number."""
        self._depth += 1
        self._count += 1
        line = self.line + 1
        if self._depth > MAX_DEPTH:
            raise Unreadable(line, f"nested deeper than {MAX_DEPTH} levels")
        if self._count > MAX_NODES:
            raise Unreadable(line, f"more than {MAX_NODES} values")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def parse(content: bytes) -> Source:
    """The document's data and lines; raises Unreadable when there is no such document."""
    root = _compose(_decode(content))
    source = Source()
    source.data = _value(root, (), source, [])
    source.lines[()] = root.start_mark.line + 1
    return source


def _decode(content: bytes) -> str:
    if len(content) > MAX_BYTES:
        raise Unreadable(1, f"{len(content)} bytes; a playbook has at most {MAX_BYTES}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise Unreadable(
            line, f"byte 0x{content[exc.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from exc


def _compose(text: str) -> yaml.Node:
    try:
        root = _Loader(text).get_single_node()
    except ReaderError as exc:
        line = text[: exc.position].count("\n") + 1
        raise Unreadable(line, f"character U+{exc.character:04X} is not allowed") from exc
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(exc) from exc
    except (ValueError, OverflowError) as exc:  # chr() of an escape beyond Unicode
        raise Unreadable(1, "an escape in a quoted text is not a character") from exc
    if root is None:
        raise Unreadable(1, "the file is empty; a playbook has version, model and test_matrix")
    assert isinstance(root, yaml.Node)
    return root


def _syntax_error(exc: yaml.MarkedYAMLError) -> Unreadable:
    mark = exc.problem_mark or exc.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem = " ".join(str(exc.problem or exc.context).split())
    if "'\\t'" in problem:
        return Unreadable(line, "a tab where YAML wants spaces; indent with spaces")
    if "another document" in problem:
        return Unreadable(line, "a second document begins; a playbook file holds one")
    return Unreadable(line, f"not valid YAML: {problem}")


def _value(
    node: yaml.Node, loc: tuple[str | int, ...], source: Source, above: list[yaml.Node]
) -> Any:
    """The node's data; each node of the tree, aliases followed, is counted and given its line."""
    line = node.start_mark.line + 1
    source.nodes += 1
    if source.nodes > MAX_NODES:
        raise Unreadable(line, f"more than {MAX_NODES} values once aliases are followed")
    if any(node is other for other in above):
        raise Unreadable(line, "an alias inside the value it stands for")
    if len(above) > MAX_DEPTH:
        raise Unreadable(line, f"nested deeper than {MAX_DEPTH} levels once aliases are followed")
    source.lines.setdefault(loc, line)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, loc, source)
    kind = "seq" if isinstance(node, yaml.SequenceNode) else "map"
    if node.tag != f"{_TAG}{kind}":
        source.mistakes.append(Mistake(loc, _tag_text(node)))
    above.append(node)
    try:
        if isinstance(node, yaml.SequenceNode):
            return [
                _value(item, (*loc, index), source, above) for index, item in enumerate(node.value)
            ]
        return {
            key: _value(item, (*loc, key), source, above) for key, item in _pairs(node, loc, source)
        }
    finally:
        above.pop()


def _pairs(
    node: yaml.Node, loc: tuple[str | int, ...], source: Source
) -> Iterator[tuple[str, yaml.Node]]:
    """The mapping's keys that are usable, each once; the others become mistakes."""
    for key_node, item in node.value:
        line = key_node.start_mark.line + 1
        text = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        if text is None or key_node.tag != f"{_TAG}str":
            shown = "a list or mapping" if text is None else text or "nothing"
            _note(source, Mistake(loc, f"a key is {shown}; keys are text: quote it"), line)
        elif _SURROGATE.search(text):
            _note(source, Mistake(loc, f"a key is {text!r}, which is not Unicode text"), line)
        elif (*loc, text) in source.lines:
            first = source.lines[(*loc, text)]
            where = f"line {first}" if first != line else "the same line"
            _note(source, Mistake((*loc, text), f"key given twice, first on {where}"), line)
        else:
            source.lines[(*loc, text)] = line
            yield text, item


def _note(source: Source, mistake: Mistake, line: int) -> None:
    source.mistake_lines[len(source.mistakes)] = line
    source.mistakes.append(mistake)


def _scalar(node: yaml.ScalarNode, loc: tuple[str | int, ...], source: Source) -> Any:
    kind = node.tag.removeprefix(_TAG)
    text: str = node.value
    if kind == "str":
        if _SURROGATE.search(text):
            source.mistakes.append(Mistake(loc, "half of a surrogate pair is not Unicode text"))
            return None
        return text
    source.spellings[loc] = text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in ("int", "float"):
        return _number(text, loc, source)
    source.mistakes.append(Mistake(loc, _tag_text(node)))
    return None


def _number(text: str, loc: tuple[str | int, ...], source: Source) -> int | float | None:
    try:
        if re.fullmatch(r"[-+]?[0-9]+", text) and len(text) <= MAX_DIGITS:
            return int(text)
        if re.fullmatch(r"0[ox][0-9a-fA-F]+", text) and len(text) <= MAX_DIGITS:
            return int(text, 0)
        number = float(text)
    except ValueError:
        number = float("nan")
    if number - number == 0 and not re.fullmatch(r"[-+]?[0-9]+|0[ox].*", text):
        return number
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    source.mistakes.append(Mistake(loc, f"{shown!r} is not a number a playbook can hold"))
    return None


def _tag_text(node: yaml.Node) -> str:
    tag = node.tag.replace(_TAG, "!!")
    return f"tag {tag!r} is not read; write the plain value"
