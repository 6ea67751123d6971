"""`aprqa gates`."""

from __future__ import annotations

from pytest_aprqa.checks.gates.registry import gates, proofs
from pytest_aprqa.cli.exits import Exit
from tests.cli.conftest import Run


def test_list_shows_every_gate(run: Run) -> None:
    ran = run("gates", "list")

    assert ran.status == Exit.FINE
    assert ran.lines[-1] == f"{len(gates())} gates"
    assert sum(line.startswith(("F-", "G")) for line in ran.lines) == len(gates())


def test_list_filters(run: Run) -> None:
    found = run("gates", "list", "F-TRACE-*", "--severity", "P0", "--json").json

    assert found
    assert all(g["id"].startswith("F-TRACE-") and g["severity"] == "P0" for g in found)
    assert run("gates", "list", "--place", "model", "--cost", "headers", "--json").json


def test_explain_tells_what_makes_it_fail(run: Run) -> None:
    proof = next(proof for proof in proofs() if proof.gate == "F-CONV-S-G")

    ran = run("gates", "explain", "F-CONV-S-G")

    assert ran.status == Exit.FINE
    assert ran.lines[0].startswith("F-CONV-S-G: ")
    assert any(line.split() == ["fails", "when", *proof.defect.split()] for line in ran.lines)
    (told,) = run("gates", "explain", "F-CONV-S-G", "--json").json
    assert told["defect"] == proof.defect


def test_an_unknown_gate_is_told_with_similar_ones(run: Run) -> None:
    ran = run("gates", "explain", "F-CONV-S-H")

    assert ran.status == Exit.USAGE
    assert ran.err.startswith("aprqa: there is no gate 'F-CONV-S-H'; did you mean F-CONV-")


def test_prove_plants_the_defect(run: Run) -> None:
    ran = run("gates", "prove", "F-ORACLE-001")

    assert ran.status == Exit.FINE
    assert ran.lines[-1] == "1 of 1 proven"
    (told,) = run("gates", "prove", "F-ORACLE-001", "--json").json
    assert (told["planted"]["ruling"], told["healthy"]["ruling"]) == ("falsified", "corroborated")
