"""A flame graph of one forward pass: modules as boxes, as wide as their time, in their parents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from pytest_aprqa.domain.trace import Trace

WIDTH = 1200.0
_ROW = 18.0
_LEAST_LABEL = 40.0
_CHARACTER = 6.5
_COLOURS = ("#f2a65a", "#eec170", "#f58549", "#d9a05b", "#e8b44f")


@dataclass(frozen=True, slots=True)
class Box:
    """One module's box: its place in seconds from the left, and how deep it lies."""

    name: str
    kind: str
    start: float
    seconds: float
    depth: int


def boxes(trace: Trace) -> tuple[Box, ...]:
    """The pass as its root, each module in the nearest module whose name begins its own.

    Modules stand side by side in the order in which they ended.
    """
    seconds = {module.name: module for module in trace.modules}
    inside: dict[str, list[str]] = {}
    for name in seconds:
        inside.setdefault(_parent(name, seconds), []).append(name)
    found = [Box("forward pass", "", 0.0, trace.seconds, 0)]

    def place(parent: str, start: float, depth: int) -> None:
        for name in inside.get(parent, []):
            module = seconds[name]
            found.append(Box(name, module.kind, start, module.seconds, depth))
            place(name, start, depth + 1)
            start += module.seconds

    place("", 0.0, 1)
    return tuple(found)


def _parent(name: str, known: object) -> str:
    assert isinstance(known, dict)
    head = name
    while "." in head:
        head = head.rpartition(".")[0]
        if head in known:
            return head
    return ""


def flame_graph(trace: Trace) -> str:
    """The graph as an SVG document; each box's title tells its module and time."""
    placed = boxes(trace)
    scale = WIDTH / trace.seconds if trace.seconds > 0 else 0.0
    height = _ROW * (max(box.depth for box in placed) + 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" '
        f'width="{WIDTH:g}" height="{height:g}" font-family="monospace" font-size="11">'
    ]
    for number, box in enumerate(placed):
        x, width = box.start * scale, box.seconds * scale
        share = box.seconds / trace.seconds if trace.seconds else 0.0
        title = f"{box.name} {box.kind} {1e3 * box.seconds:.3f} ms ({share:.1%})".replace("  ", " ")
        colour = _COLOURS[number % len(_COLOURS)]
        lines.append(
            f"<g data-module={quoteattr(box.name)}><title>{escape(title)}</title>"
            f'<rect x="{x:.3f}" y="{_ROW * box.depth:g}" width="{width:.3f}" '
            f'height="{_ROW - 1:g}" fill="{colour}"/>{_label(box, x, width)}</g>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _label(box: Box, x: float, width: float) -> str:
    if width < _LEAST_LABEL:
        return ""
    text = box.name.rpartition(".")[2] if "." in box.name else box.name
    shown = escape(text[: int((width - 6) / _CHARACTER)])
    return f'<text x="{x + 3:.3f}" y="{_ROW * box.depth + 12:g}">{shown}</text>'
