"""What the gates about the inside of a model and its speed say where nothing can be said."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pytest_aprqa.checks.gates.inside.baseline_proofs import against_steady
from pytest_aprqa.checks.gates.inside.layers_proofs import edited
from pytest_aprqa.checks.gates.inside.passes import TRACED
from pytest_aprqa.checks.gates.inside.speed import at_least, at_most, profiled
from pytest_aprqa.checks.gates.inside.speed_proofs import LIMITS, timed_lab
from pytest_aprqa.checks.gates.proof import ProofBench, Tampered
from pytest_aprqa.checks.gates.registry import checks
from pytest_aprqa.checks.gates.running import examine
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.profile import Estimate
from pytest_aprqa.domain.sections import Sections
from pytest_aprqa.domain.verdict import Ruling

TRACE_GATES = [
    check.gate.id for check in checks().values() if check.gate.section == "trace_payload"
]
LOOKING = [gate for gate in TRACE_GATES if checks()[gate].gate.formats == TRACED]
LIMITED = ["F-PROFILE-CI-001", "F-PROFILE-CI-002", "F-PROFILE-CI-003", "F-PERF-002", "F-PERF-003"]


def nan_row(weight: Any) -> Any:
    weight[3] = float("nan")
    return weight


@pytest.mark.parametrize("gate", LOOKING)
def test_an_engine_that_offers_no_look_gives_no_pass(gate: str, bench: ProofBench) -> None:
    lab = bench.target_lab(Format.GGUF, Quantization.Q8_0)
    finding = examine(checks()[gate], lab)
    assert finding.ruling is Ruling.INAPPLICABLE
    assert "no look into a pass" in finding.reason


@pytest.mark.parametrize("gate", LOOKING)
def test_a_broken_model_passes_no_gate_that_measures_values(gate: str, bench: ProofBench) -> None:
    lab = bench.kept(
        "every norm is NaN", lambda b: edited(b, model__layers__0__input_layernorm__weight=nan_row)
    )
    blind = gate == "F-TRACE-LAYERS-001" or gate in [f"F-TRACELEVEL-00{n}" for n in range(1, 5)]
    expected = [Ruling.CORROBORATED] if blind else [Ruling.FALSIFIED, Ruling.INCONCLUSIVE]
    assert examine(checks()[gate], lab).ruling in expected


def test_a_nan_is_blamed_on_the_first_module_that_gives_it(bench: ProofBench) -> None:
    lab = bench.kept(
        "every norm is NaN", lambda b: edited(b, model__layers__0__input_layernorm__weight=nan_row)
    )
    finding = examine(checks()["F-TRACE-PAYLOAD-001"], lab)
    assert finding.culprit == "model.layers.0.input_layernorm"


@pytest.mark.parametrize("level", ["none", "basic", "layer"])
def test_what_a_level_does_not_record_is_not_judged(level: str, bench: ProofBench) -> None:
    sections = Sections.model_validate({"trace_payload": {"level": level}})
    lab = bench.target_lab(sections=sections)
    finding = examine(checks()["F-NUM-003"], lab)
    assert finding.ruling is Ruling.INAPPLICABLE
    assert f"asks for {level}" in finding.reason


@pytest.mark.parametrize(
    ("low", "high", "below", "above"),
    [
        (1.0, 2.0, Ruling.CORROBORATED, Ruling.FALSIFIED),
        (2.0, 4.0, Ruling.INCONCLUSIVE, Ruling.INCONCLUSIVE),
        (4.0, 5.0, Ruling.FALSIFIED, Ruling.CORROBORATED),
    ],
)
def test_an_interval_over_the_limit_decides_nothing(
    low: float, high: float, below: Ruling, above: Ruling
) -> None:
    seen = Estimate((low + high) / 2, low, high)
    assert at_most(seen, 3.0, "it takes", "ms").ruling is below
    assert at_least(seen, 3.0, "it makes", "tokens/s").ruling is above


@pytest.mark.parametrize("gate", LIMITED)
def test_without_a_limit_nothing_is_asserted(gate: str, bench: ProofBench) -> None:
    finding = examine(checks()[gate], timed_lab(bench, assertions={}))
    assert finding.ruling is Ruling.INAPPLICABLE


def test_a_backends_own_limit_comes_first(bench: ProofBench) -> None:
    lab = timed_lab(bench, assertions={**LIMITS, "min_throughput_cpu": 1e5})
    assert examine(checks()["F-PROFILE-CI-001"], lab).ruling is Ruling.FALSIFIED


@pytest.mark.parametrize("settings", [{"formats": ["gguf"]}, {"backends": ["gpu"]}])
@pytest.mark.parametrize("gate", ["F-PROFILE-CI-004", "F-PROFILE-001"])
def test_targets_that_are_not_named_are_not_measured(
    gate: str, settings: dict[str, Any], bench: ProofBench
) -> None:
    finding = examine(checks()[gate], timed_lab(bench, **settings))
    assert finding.ruling is Ruling.INAPPLICABLE


@pytest.mark.parametrize("key", ["host", "engine", "target", "model"])
def test_another_machines_baseline_has_no_meaning(key: str, bench: ProofBench) -> None:
    lab = against_steady(bench)
    other: dict[str, Any] = {key: "another"}
    lab.plant(profiled, replace(lab.once(profiled), **other))
    finding = examine(checks()["F-PROFILE-DIFF-001"], lab)
    assert finding.ruling is Ruling.INAPPLICABLE
    assert key in finding.reason


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "no such baseline"), ("[]", "one JSON object"), ("{", "not a profile")],
)
def test_a_baseline_that_cannot_be_read_is_a_mistake(
    text: str | None, told: str, bench: ProofBench
) -> None:
    path = bench.place("b.json")
    if text is not None:
        path.write_text(text)
    with pytest.raises(AprqaError, match=told):
        examine(checks()["F-PROFILE-DIFF-001"], timed_lab(bench, baseline=str(path)))


def test_a_directory_of_baselines_has_one_for_each_target(bench: ProofBench) -> None:
    path = bench.place("safetensors-cpu.json")
    path.write_text(json.dumps(timed_lab(bench).once(profiled).as_json()))
    lab = timed_lab(bench, baseline=str(path.parent))
    assert examine(checks()["F-PROFILE-DIFF-001"], lab).ruling is Ruling.CORROBORATED


def test_a_busy_machine_decides_nothing(bench: ProofBench) -> None:
    lab = timed_lab(bench)
    found = lab.once(profiled)
    runs = tuple(
        replace(run, token_s=tuple(s * (1 + 0.1 * i) for s in run.token_s))
        for i, run in enumerate(found.runs)
    )
    lab.plant(profiled, replace(found, runs=runs))
    assert examine(checks()["F-BENCH-003"], lab).ruling is Ruling.INCONCLUSIVE


def test_a_prompt_of_one_token_shows_no_attention(bench: ProofBench) -> None:
    sections = Sections.model_validate({"trace_payload": {"prompt": "a"}})
    engine = Tampered(bench.engine(), tokenize=lambda _engine, _text, special: (5,))
    lab = bench.target_lab(engine=engine, sections=sections)
    for gate in ("F-NUM-001", "F-TRACE-CAUSAL-001", "F-TRACE-RANK-001", "F-TRACE-MASK-001"):
        assert examine(checks()[gate], lab).ruling is Ruling.INAPPLICABLE, gate
