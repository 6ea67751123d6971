"""Conditions are read safely, and decided on the evidence alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.conditions.concluding import category_of, conclusions
from pytest_aprqa.domain.conditions.evaluation import conclude, mistakes_in
from pytest_aprqa.domain.conditions.syntax import ConditionError, parse
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import Check, Outcome, RunRecord
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Severity
from pytest_aprqa.domain.mqs import score_run
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.scoring import Status
from pytest_aprqa.domain.sections import FalsificationGate
from pytest_aprqa.domain.verdict import Ruling
from tests.reports.card_records import FILE, plan, record, sums

HELD, REFUTED, NOTHING = Ruling.CORROBORATED, Ruling.FALSIFIED, Ruling.INAPPLICABLE


def run(output: str = "It is 4.", *, failing: Gateway | None = None) -> RunRecord:
    """Two answers of 80 tokens a second, judged right by the arithmetic oracle."""
    made = record(plan(sums(2)), failing=failing)
    shown = [item.model_copy(update={"output": output}) for item in made.evidence]
    return made.model_copy(update={"evidence": tuple(shown)})


@pytest.mark.parametrize(
    ("condition", "ruling"),
    [
        ("tps >= 10", HELD),
        ("tps > 80", REFUTED),
        ("ttft < 2000 && tps >= 80", HELD),
        ("output.len() > 0", HELD),
        ("output.length == 8", HELD),
        ("len(output) == 9", REFUTED),
        ("stdout.contains('4')", HELD),
        ("stdout.contains('5')", REFUTED),
        ("exit_code == 0", HELD),
        ("exit_code != 0 || has_output", HELD),
        ("!has_output", REFUTED),
        ("not has_output or not valid_output", REFUTED),
        ("backend == 'gpu' => tps >= 100", HELD),
        ("backend == 'cpu' => tps >= 100", REFUTED),
        ("backend == 'cpu' ? tps >= 10 : tps >= 100", HELD),
        ("arithmetic_oracle(prompt, output)", HELD),
        ("unique_chars(output) >= 8", REFUTED),
        ("max_repetition_ratio(output) < 0.5", HELD),
        ("has_non_printable(output)", REFUTED),
        ("shannon_entropy(output) >= 1.0", HELD),
        ("loaded && stable", HELD),
        ("pass_rate == 1", HELD),
        ("cpu_tps ≈ 81", HELD),
        ("cpu_tps ≈ 90", REFUTED),
        ("arithmetic_passes", HELD),
        ("all_formats_pass", HELD),
        ("tps / 2 + 10 * 2 - 5 == 55", HELD),
        ("-tps < 0", HELD),
        # Nothing measured it, and nothing else decides.
        ("gpu_tps >= 100", NOTHING),
        ("gpu_tps / cpu_tps >= 2.0", NOTHING),
        ("is_garbage(output)", NOTHING),
        ("code_passes", NOTHING),
        ("health_check == 200", NOTHING),
        ("reproducible", NOTHING),
        ("nan_count == 0 && inf_count == 0", NOTHING),
        ("tps < 'fast'", NOTHING),
        # Others decide.
        ("gpu_tps >= 100 || tps >= 10", HELD),
        ("gpu_tps >= 100 && tps >= 1000", REFUTED),
        ("false => gpu_tps >= 100", HELD),
    ],
)  # fmt: skip
def test_a_condition_is_decided_on_the_evidence(condition: str, ruling: Ruling) -> None:
    assert conclude(condition, run()).ruling is ruling


def test_the_reason_says_where_and_how_much() -> None:
    assert conclude("tps >= 100", run()).reason == (
        "tps >= 100 is false of 2 of 2 answers, first sum_00-safetensors-cpu-run (tps 80)"
    )
    assert conclude("tps >= 10", run()).reason == (
        "tps >= 10 holds of all 2 answers that say it (tps 80)"
    )
    assert conclude("gpu_tps >= 10", run()).reason == "gpu_tps >= 10: nothing measured gpu_tps"


def test_an_empty_run_corroborates_nothing() -> None:
    nothing = record(plan(sums(2)), otherwise=Outcome.BLOCKED)

    assert conclude("tps >= 0", nothing).ruling is NOTHING
    assert conclude("pass_rate >= 0", nothing).ruling is NOTHING


def test_a_failed_gateway_is_seen() -> None:
    assert conclude("loaded", run(failing=Gateway.G1)).ruling is REFUTED


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("tpz >= 10", "nothing measures 'tpz'; did you mean tps?"),
        ("output.size() > 1", "nothing measures 'size()'"),
        ("tps >=", "a value is missing at the end of 'tps >='"),
        ("tps >= 10; true", "'; true' is no part of a condition"),
        ("(tps >= 10", "expected ')' at the end of '(tps >= 10'"),
        ("tps >= 10 10", "expected the end at '10' in 'tps >= 10 10'"),
        ("is_garbage()", "is_garbage() takes 1 values, got 0"),
        ("", "a value is missing at the end of ''"),
        ("(" * 100 + "1" + ")" * 100, "the condition is nested more than 32 deep"),
        ("!" * 100 + "true", "the condition is nested more than 32 deep"),
        ("1" * 3000, "the condition has 3000 characters; at most 2000"),
    ],
)
def test_what_cannot_be_decided_is_told_before_the_run(condition: str, problem: str) -> None:
    assert next(mistakes_in(condition)).startswith(problem)


@given(st.text(alphabet="tps output(){}[].!&|=<>'\"1eE+-*/?:,_≈ \n", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tree = parse(text)
    except ConditionError:
        return  # refused, and by nothing else
    assert list(mistakes_in(text)) or conclude(text, run()).reason
    assert tree == parse(text)


def conditional(*gates: FalsificationGate) -> RunRecord:
    """A run of a playbook with these conditions, concluded."""
    made = plan(sums(2))
    playbook = made.playbook.model_copy(update={"falsification_gates": gates})
    asked = record(made).model_copy(update={"plan": replace(made, playbook=playbook).owed(FILE)})
    return asked.model_copy(update={"evidence": (*asked.evidence, *conclusions(asked))})


def test_conditions_are_evidence_that_counts() -> None:
    fast = FalsificationGate(id="F-PERF-001", condition="tps >= 10")
    right = FalsificationGate(id="F-QUAL-001", condition="valid_output", severity=Severity.P0)

    made = conditional(fast, right)

    found = {e.scenario: e for e in made.evidence if e.check is Check.CONDITION}
    assert [found[name].outcome for name in ("F-PERF-001", "F-QUAL-001")] == ["Corroborated"] * 2
    assert found["F-PERF-001"].category is Category.PERF
    assert score_run(made).gates.passed == 2


def test_a_falsified_p0_condition_blocks_the_model() -> None:
    slow = FalsificationGate(id="F-PERF-009", condition="tps >= 999", severity=Severity.P0)

    mqs = score_run(conditional(slow))

    assert mqs.status is Status.BLOCKED
    assert mqs.remarks[0] == f"P0 falsified: {FILE}::run::F-PERF-009"


def test_an_edited_conclusion_is_no_score() -> None:
    made = conditional(FalsificationGate(id="F-PERF-009", condition="tps >= 999"))
    *others, last = made.evidence
    good = conditional(FalsificationGate(id="F-PERF-009", condition="tps >= 9")).evidence[-1]
    edited = last.model_copy(update={"outcome": good.outcome, "verdicts": good.verdicts})

    with pytest.raises(AprqaError, match="says Corroborated, but its condition comes to Falsified"):
        score_run(made.model_copy(update={"evidence": (*others, edited)}))


def test_the_id_names_the_category() -> None:
    assert category_of("F-STAB-001") is Category.STAB
    assert category_of("F-MINE-001") is Category.QUAL
    assert category_of("mine") is Category.QUAL
