"""The embedded playbook at tier mvp, every gate included."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pytest_aprqa.checks.gates.registry import gates
from pytest_aprqa.domain.gate import Cost, Place
from pytest_aprqa.domain.gate_ids import ELSEWHERE

PLAYBOOK = Path(__file__).parents[2] / "playbooks" / "embedded.playbook.yaml"
INI = "[pytest]\nfilterwarnings = error\naddopts = -p no:syrupy\n"


def test_every_gate_of_the_registry_is_asked_and_none_is_falsified(
    pytester: pytest.Pytester,
) -> None:
    pytester.makefile(".ini", pytest=INI)

    result = pytester.runpytest_subprocess(
        str(PLAYBOOK), "-n2", "--tier=mvp", "--aprqa-backend=cpu", f"--rootdir={pytester.path}",
        timeout=600,
    )  # fmt: skip

    assert result.ret == 0, result.stdout.str()[-3000:]
    (found,) = (pytester.path / ".aprqa").glob("**/evidence.json")
    record = json.loads(found.read_text(encoding="utf-8"))
    planned = {entry["gate"] for entry in record["plan"]["scenarios"]}
    items = (Place.MODEL, Place.TARGET, Place.SERVER)
    own = {g.id for g in gates() if g.place in items and g.id not in ELSEWHERE}
    off = {g.id for g in gates() if g.section == "ollama_parity"}  # asked only when switched on
    assert own - off - planned == set()
    outcomes = Counter(item["outcome"] for item in record["evidence"])
    assert set(outcomes) <= {"Corroborated", "Skipped", "Inconclusive"}, outcomes
    timed = {g.id for g in gates() if g.cost is Cost.TIMING}  # a busy machine cannot decide them
    unsure = {i["gate"] for i in record["evidence"] if i["outcome"] == "Inconclusive"}
    assert unsure <= timed
    skipped = [item for item in record["evidence"] if item["outcome"] == "Skipped"]
    assert [item["id"] for item in skipped if item["applicable"]] == []
