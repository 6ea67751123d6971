from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pytest_aprqa.checks.flame_graph import WIDTH, boxes, flame_graph
from pytest_aprqa.domain.trace import ModuleTrace, Role, Trace, TraceLevel


def module(name: str, seconds: float) -> ModuleTrace:
    return ModuleTrace(name, "Kind<&>", Role.OTHER, None, (1, 2, 3), seconds)


TRACE = Trace(
    level=TraceLevel.BASIC,
    token_ids=(1, 2),
    layers=2,
    dtype="float32",
    activation="silu",
    seconds=10.0,
    modules=(
        module("m.0.inner", 1.0),
        module("m.0.other", 2.0),
        module("m.0", 4.0),
        module("m.1", 5.0),
    ),
)


def test_modules_lie_in_the_nearest_one_that_holds_them() -> None:
    placed = {box.name: (box.start, box.seconds, box.depth) for box in boxes(TRACE)}
    assert placed == {
        "forward pass": (0.0, 10.0, 0),
        "m.0": (0.0, 4.0, 1),
        "m.0.inner": (0.0, 1.0, 2),
        "m.0.other": (1.0, 2.0, 2),
        "m.1": (4.0, 5.0, 1),
    }


def test_the_graph_is_svg_with_a_box_for_each() -> None:
    root = ElementTree.fromstring(flame_graph(TRACE))
    spaces = {"s": "http://www.w3.org/2000/svg"}
    widths = {
        group.get("data-module"): float(group.find("s:rect", spaces).get("width"))  # type: ignore[union-attr, arg-type]
        for group in root.findall("s:g", spaces)
    }
    assert widths["forward pass"] == WIDTH
    assert widths["m.0.other"] == pytest.approx(WIDTH * 0.2)
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "m.0.other Kind<&> 2000.000 ms (20.0%)" in titles
