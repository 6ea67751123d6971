"""Gates of the registry as items: what each way to end means for the run."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import PLAYBOOK, Bench

HELD, FALSE = "corroborated", "falsified"


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_gates_are_items_of_the_model_and_of_each_target(bench: Bench, workers: str) -> None:
    bench.script(gates={"F-A-001": ("model", HELD), "F-B-001": ("target", HELD)})

    run = bench.run(workers, "--tier=mvp")

    assert run.exit == 0
    found = run.outcomes()
    assert found["F-A-001-model"] == found["F-B-001-safetensors-cpu"] == "Corroborated"
    assert run.card("gates") == "2 of 2 corroborated"
    assert [e["gate"] for e in run.record()["evidence"] if e["check"] == "gate"] == [
        "F-B-001",
        "F-A-001",
    ]


def test_a_falsified_gate_is_the_cause_and_blocks_the_model(bench: Bench) -> None:
    bench.script(gates={"F-A-001": ("model", FALSE)})

    run = bench.run("-n0", "--tier=mvp")

    assert run.exit == 1
    assert run.card("cause") == "F-A-001-model: model.norm.weight: as the script says"
    assert "status BLOCKED" in run.card("MQS")
    run.result.stdout.fnmatch_lines(["*Falsified: as the script says*"])


def test_an_inconclusive_gate_is_no_pass_and_stays_owed(bench: Bench) -> None:
    bench.script(gates={"F-A-001": ("target", "inconclusive")})

    run = bench.run("-n0", "--tier=mvp", "-rs")

    assert run.exit == 0
    assert run.outcomes()["F-A-001-safetensors-cpu"] == "Inconclusive"
    assert run.card("gates") == "0 of 1 corroborated"
    assert "status BLOCKED" in run.card("MQS")  # none of one gate is below the tier's threshold
    run.result.stdout.fnmatch_lines(["*inconclusive: as the script says*"])


def test_a_gate_without_a_meaning_leaves_nothing_out(bench: Bench) -> None:
    bench.script(gates={"F-A-001": ("target", "inapplicable")})

    run = bench.run("-n0", "--tier=mvp")

    assert run.exit == 0
    assert "status PROVISIONAL" in run.card("MQS")
    assert run.card("no meaning") == "F-A-001 of safetensors-cpu: as the script says"


def test_an_engine_that_breaks_in_a_gate_is_a_crash(bench: Bench) -> None:
    bench.script(gates={"F-A-001": ("target", "crash")})

    run = bench.run("-n0", "--tier=mvp")

    assert run.exit == 1
    assert run.outcomes()["F-A-001-safetensors-cpu"] == "Crashed"
    assert run.card("MQS").startswith("0 / 1000")


def test_a_section_that_is_switched_off_is_named(bench: Bench) -> None:
    bench.script(gates={"F-A-001": ("target", FALSE)})
    bench.playbook(PLAYBOOK + "trace_payload:\n  enabled: false\n")

    run = bench.run("-n0", "--tier=mvp")

    assert run.exit == 0
    assert run.card("left out") == "F-A-001: switched off by trace_payload.enabled"
    assert "status PENDING" in run.card("MQS")


def test_a_gate_that_a_section_lists_is_owed_at_every_tier(bench: Bench) -> None:
    bench.script(gates={"F-A-001": ("target", HELD)})
    bench.playbook(PLAYBOOK + "trace_payload:\n  gates: [F-A-001]\n")

    assert "F-A-001-safetensors-cpu" in bench.run("-n0", "--tier=smoke").outcomes()


def test_unknown_gates_and_conditions_are_mistakes_of_the_playbook(bench: Bench) -> None:
    bench.playbook(
        PLAYBOOK
        + "trace_payload:\n  gates: [F-NONE-001]\n"
        + "falsification_gates:\n  - {id: a, condition: 'tpz > 1'}\n  - {id: a, condition: 'tps'}\n"
    )

    run = bench.run("-n0")

    assert run.exit == 2
    run.result.stdout.fnmatch_lines(
        [
            "*model.playbook.yaml:21: trace_payload.gates[[]0[]]: there is no gate 'F-NONE-001'*",
            "*yaml:23: falsification_gates[[]0[]].condition: nothing measures 'tpz'*",
            "*model.playbook.yaml:24: falsification_gates[[]1[]].id: 'a' is the id of another one*",
        ]
    )


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_conditions_are_decided_when_all_evidence_is_there(bench: Bench, workers: str) -> None:
    bench.playbook(
        PLAYBOOK
        + "falsification_gates:\n"
        + "  - {id: F-QUAL-001, condition: valid_output}\n"
        + "  - {id: F-PERF-001, condition: 'backend == \"gpu\" => tps >= 100'}\n"
        + "  - {id: F-PERF-002, condition: 'gpu_tps >= 100'}\n"
        + "  - {id: F-QUAL-002, condition: 'pass_rate < 1', severity: P2}\n"
    )

    run = bench.run(workers, "--tier=mvp")

    found = run.outcomes()
    names = ("F-QUAL-001", "F-PERF-001", "F-PERF-002", "F-QUAL-002")
    assert [found[n] for n in names] == ["Corroborated", "Corroborated", "Skipped", "Falsified"]
    assert run.exit == 1
    assert run.card("gates") == "2 of 3 corroborated"
    assert run.card("no meaning").startswith("F-PERF-002 of run: gpu_tps >= 100: nothing measured")
