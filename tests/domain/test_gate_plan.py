"""Which gates a run owes."""

from __future__ import annotations

import pytest

from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.gate import Cost, Gate, Place, Rung
from pytest_aprqa.domain.gate_plan import (
    SECTIONS,
    GateBook,
    listed_gates,
    model_gates,
    switched_off,
    target_gates,
)
from pytest_aprqa.domain.model import Backend, Format, Quantization, Severity, Tier
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.sections import ProfileCi, Sections, Switched, TracePayload


def gate(
    name: str,
    place: Place = Place.TARGET,
    *,
    cost: Cost = Cost.HEADERS,
    tier: Tier = Tier.MVP,
    formats: frozenset[Format] = frozenset(Format),
    section: str = "",
) -> Gate:
    return Gate(
        id=name,
        domain="d",
        assertion=f"{name} holds",
        severity=Severity.P1,
        category=Category.COMP,
        place=place,
        cost=cost,
        rung=Rung.TENSOR,
        tier=tier,
        source="s",
        formats=formats,
        section=section,
    )


GGUF = Target("a/b", Format.GGUF, Quantization.Q4_K_M, Backend.CPU)
TRUTH = Target("a/b", Format.SAFETENSORS, None, Backend.CPU)
BOOK = GateBook(
    (
        gate("F-SLOW-001", cost=Cost.TIMING, section="profile_ci"),
        gate("F-FAST-001"),
        gate("F-GGUF-001", formats=frozenset({Format.GGUF})),
        gate("F-DEEP-001", tier=Tier.DEEP, section="trace_payload"),
        gate("F-SERVER-001", Place.SERVER, cost=Cost.SERVER),
        gate("F-MODEL-001", Place.MODEL),
        gate("F-CONVERSION-001", Place.CONVERSION),
    ),
    {"F-OTHER-001": "F-DEEP-001"},
)


def ids(
    sections: Sections | None = None,
    tier: Tier | None = Tier.MVP,
    target: Target = TRUTH,
    serves: bool = True,
) -> list[str]:
    found = target_gates(BOOK, sections or Sections(), tier, target, serves=serves)
    return [one.id for one in found]


def test_the_cheapest_come_first_and_the_format_decides() -> None:
    assert ids() == ["F-FAST-001", "F-SERVER-001", "F-SLOW-001"]
    assert ids(target=GGUF) == ["F-FAST-001", "F-GGUF-001", "F-SERVER-001", "F-SLOW-001"]
    assert ids(serves=False) == ["F-FAST-001", "F-SLOW-001"]


def test_of_an_endpoint_only_its_server_is_seen() -> None:
    assert ids(target=Target("a/b", None, None, None)) == ["F-SERVER-001"]


def test_about_the_model() -> None:
    assert [g.id for g in model_gates(BOOK, Sections(), Tier.MVP)] == ["F-MODEL-001"]
    assert model_gates(BOOK, Sections(), Tier.SMOKE) == ()


def test_a_tier_asks_no_gate_of_a_deeper_one_unless_it_is_listed() -> None:
    assert "F-DEEP-001" in ids(tier=Tier.DEEP)
    assert "F-DEEP-001" not in ids(tier=None)
    listed = Sections(trace_payload=TracePayload(gates=("F-OTHER-001",)))
    assert "F-DEEP-001" in ids(listed, Tier.SMOKE)
    assert list(listed_gates(listed)) == [(("trace_payload", "gates", 0), "F-OTHER-001")]


def test_what_is_switched_off_is_named() -> None:
    off = Sections(profile_ci=ProfileCi(enabled=False))

    assert "F-SLOW-001" not in ids(off)
    assert [(n.cells, n.reason) for n in switched_off(BOOK, off)] == [
        ("F-SLOW-001", "switched off by profile_ci.enabled")
    ]
    assert list(switched_off(BOOK, Sections())) == []


def test_a_profile_is_of_the_formats_and_backends_it_names() -> None:
    only = Sections(profile_ci=ProfileCi(formats=(Format.GGUF,)))

    assert "F-SLOW-001" not in ids(only)
    assert "F-SLOW-001" in ids(only, target=GGUF)


@pytest.mark.parametrize("path", SECTIONS)
def test_every_section_that_is_named_is_there(path: str) -> None:
    assert isinstance(Sections().section(path), Switched)
