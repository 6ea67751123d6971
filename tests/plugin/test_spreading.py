"""How whole runs are spread over workers: order, splits, loads, deaths, early ends."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.plugin.conftest import PLAYBOOK, Bench, Run

UNIT = "model.playbook.yaml::safetensors-cpu"
TIMINGS = ".pytest_cache/v/aprqa/seconds"
PROMPTS = 40
LONG = PLAYBOOK.replace(
    "scenarios:\n",
    f"  prompts: {json.dumps([f'What of {i}?' for i in range(PROMPTS)])}\n"
    "  temperature: 0.5\nscenarios:\n",  # what is sampled is asked one by one
)
"""A playbook of 43 scenarios, run and chat: 86 items behind the gateways."""
WORTH_A_SPLIT = {"items": 20, "seconds": 200.0, "load_s": 0.1}


def remember(bench: Bench, timings: Mapping[str, Any]) -> None:
    """Give pytest's cache what an earlier run measured."""
    path = bench.root / TIMINGS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(timings))


def remembered(bench: Bench) -> dict[str, Any]:
    timings: dict[str, Any] = json.loads((bench.root / TIMINGS).read_text())
    return timings


def loads(bench: Bench) -> list[str]:
    lines = (bench.root / "log").read_text().splitlines()
    return [line.removeprefix("load ") for line in lines if line != "close"]


def workers_of(run: Run) -> dict[str, list[str]]:
    """The items that each worker reported, in order, as `-v` shows them."""
    found: dict[str, list[str]] = {}
    for worker, name in re.findall(r"^\[(gw\d+)\].* \S+::(\S+) *$", run.output, re.MULTILINE):
        found.setdefault(worker, []).append(name)
    return found


def test_the_longest_target_is_loaded_first_and_all_are_measured(bench: Bench) -> None:
    bench.playbook(PLAYBOOK.replace("[safetensors]", "[safetensors, apr, gguf]"))
    bench.script(log=str(bench.root / "log"))
    file = "model.playbook.yaml"
    remember(
        bench,
        {
            f"{file}::safetensors-cpu": {"items": 6, "seconds": "?", "load_s": 1.0},
            f"{file}::gguf-cpu": {"items": 2, "seconds": 20.0, "load_s": 30.0},
            f"{file}::apr-cpu": {"items": 12, "seconds": 0.6, "load_s": 0.3},
            "gone.playbook.yaml::gguf-cpu": {"items": 1, "seconds": 1.0, "load_s": 1.0},
        },
    )
    run = bench.run("-n1", "--tier=mvp", "-m", "not conversion")
    assert run.exit == 0
    assert loads(bench) == ["gguf-cpu", "safetensors-cpu", "apr-cpu"]
    timings = remembered(bench)
    assert {unit: timing["items"] for unit, timing in timings.items()} == {
        "gone.playbook.yaml::gguf-cpu": 1,
        f"{file}::gguf-cpu": 6,
        f"{file}::safetensors-cpu": 6,
        f"{file}::apr-cpu": 6,
    }
    assert all(timing["seconds"] < 20 for timing in timings.values())


def test_a_long_target_is_shared_by_a_worker_that_has_nothing_else(bench: Bench) -> None:
    bench.playbook(LONG)
    bench.script(log=str(bench.root / "log"))
    remember(bench, {UNIT: WORTH_A_SPLIT})
    run = bench.run("-n2", "--tier=mvp", "-v")
    assert run.exit == 0
    run.result.assert_outcomes(passed=91)
    assert run.card("coverage").startswith("86 of 86 planned items tried, 0 not")
    assert loads(bench) == ["safetensors-cpu"] * 2
    by_worker = workers_of(run)
    assert sorted(by_worker) == ["gw0", "gw1"]
    assert sum(map(len, by_worker.values())) == 91
    [owner] = [w for w, names in by_worker.items() if any(n.startswith("g0_") for n in names)]
    gates = [name for name in by_worker[owner] if re.match("g[0-4]_", name)]
    assert len(gates) == 5
    assert by_worker[owner][:5] == gates


def test_a_target_that_is_not_worth_another_load_stays_in_one_worker(bench: Bench) -> None:
    bench.playbook(LONG)
    bench.script(log=str(bench.root / "log"))
    run = bench.run("-n2", "--tier=mvp")
    assert run.exit == 0
    run.result.assert_outcomes(passed=91)
    assert loads(bench) == ["safetensors-cpu"]


@pytest.mark.parametrize("place", [1, PROMPTS - 1])
def test_a_worker_killed_in_the_middle_of_its_piece_loses_and_doubles_nothing(
    bench: Bench, place: int
) -> None:
    bench.playbook(LONG)
    bench.playbook(PLAYBOOK, name="other")
    bench.script({f"What of {place}?": "!kill"})
    remember(bench, {UNIT: WORTH_A_SPLIT})
    run = bench.run("-n2", "--tier=mvp", "--aprqa-gate=block", "--junitxml=junit.xml")
    assert run.exit == 1
    assert "INTERNALERROR" not in run.output
    outcomes = Counter(run.outcomes().values())
    assert sum(outcomes.values()) == 86
    assert 1 <= outcomes["Crashed"] <= 2  # in the other half the same prompt may kill, too
    assert outcomes["Crashed"] + outcomes["Blocked"] + outcomes["Corroborated"] == 86
    assert set(run.outcomes("other").values()) == {"Corroborated"}
    cases = ElementTree.parse(bench.root / "junit.xml").findall(".//testcase")
    names = [(case.get("classname"), case.get("name")) for case in cases]
    assert len(names) == len(set(names)) == 91 + 11


@pytest.mark.parametrize("option", ["-x", "--maxfail=2"])
def test_an_early_end_is_no_crash_and_runs_little_more(bench: Bench, option: str) -> None:
    bench.playbook(LONG)
    bench.script({"What is 2 + 2?": "5", "What is 3 + 4?": "5"})
    remember(bench, {UNIT: WORTH_A_SPLIT})
    run = bench.run("-n2", "--tier=mvp", option)
    assert run.exit == 2
    assert "INTERNALERROR" not in run.output
    assert "crashed" not in run.output
    counts = run.result.parseoutcomes()
    assert 1 <= counts["failed"] <= 4
    assert sum(v for k, v in counts.items() if k in ("passed", "failed")) < 91


def test_the_items_that_failed_and_a_selection_run_in_two_workers_too(bench: Bench) -> None:
    bench.script({"What is 3 + 4?": "8"})
    first = bench.run("-n2", "--tier=mvp")
    first.result.assert_outcomes(passed=9, failed=2)
    again = bench.run("-n2", "--tier=mvp", "--lf")
    again.result.assert_outcomes(failed=2)
    chosen = bench.run("-n2", "--tier=mvp", "-k", "capital", "--dist=loadscope")
    chosen.result.assert_outcomes(passed=2)
