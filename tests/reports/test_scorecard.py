from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from pytest_aprqa.domain.evidence import Outcome, RunRecord
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Backend, Severity, Tier
from pytest_aprqa.domain.mqs import score_run
from pytest_aprqa.domain.plan import Selection
from pytest_aprqa.domain.playbook import Scenario
from pytest_aprqa.reports.scorecard import CardLine, render
from tests.reports.card_records import plan, record, sums

WRITTEN = ("aprqa-evidence/run/q/evidence.json", "aprqa-evidence/run/q/evidence.jsonl")
BOTH = (Backend.CPU, Backend.GPU)


def card(record: RunRecord) -> tuple[CardLine, ...]:
    return render(record, score_run(record), WRITTEN)


def shown(record: RunRecord) -> str:
    """The card as text, each line after its style."""
    return "\n".join(f"{line.style:<6}|{line.text}".rstrip() for line in card(record)) + "\n"


def texts(record: RunRecord) -> list[str]:
    return [line.text for line in card(record)]


def test_the_card_of_a_passing_run(snapshot: SnapshotAssertion) -> None:
    assert shown(record(plan(sums(10)))) == snapshot


def test_the_card_of_a_certified_run(snapshot: SnapshotAssertion) -> None:
    made = plan(sums(100), tier=Tier.DEEP, backends=BOTH)
    assert shown(record(made, {"sum_07": Outcome.TIMEOUT}, reason="too slow")) == snapshot


def test_the_card_of_a_failed_gateway(snapshot: SnapshotAssertion) -> None:
    made = plan(sums(3))
    told = record(
        made, failing=Gateway.G0, otherwise=Outcome.BLOCKED, stopped="G0 of safetensors-cpu"
    )
    assert shown(told) == snapshot


def test_the_card_of_a_partial_run(snapshot: SnapshotAssertion) -> None:
    told = record(plan(sums(3)), {"sum_02": None}, interrupted=True)
    assert shown(told) == snapshot


def test_the_card_of_a_run_narrowed_by_an_option(snapshot: SnapshotAssertion) -> None:
    made = plan(sums(10), backends=BOTH, selection=Selection(backends=(Backend.CPU,)))
    assert shown(record(made)) == snapshot


def test_the_card_of_a_run_narrowed_by_an_excuse(snapshot: SnapshotAssertion) -> None:
    told = record(
        plan(sums(3)), {"sum_01": Outcome.SKIPPED}, excused=True, reason="the context is too short"
    )
    assert shown(told) == snapshot


def test_the_card_of_a_falsified_p0(snapshot: SnapshotAssertion) -> None:
    first = Scenario(name="capital", prompt="Capital of France?", severity=Severity.P0)
    made = plan([first, *sums(9)])
    falsified = "response: none of 'Paris' in 'Lyon, I think'"
    assert shown(record(made, {"capital": Outcome.FALSIFIED}, reason=falsified)) == snapshot


def test_the_card_of_many_falsifications(snapshot: SnapshotAssertion) -> None:
    made = plan(sums(14))
    told = record(made, otherwise=Outcome.FALSIFIED)
    assert shown(told) == snapshot


@pytest.mark.parametrize("tier", [Tier.SMOKE, None])
def test_the_card_of_feedback(tier: Tier | None, snapshot: SnapshotAssertion) -> None:
    assert shown(record(plan(sums(3), tier=tier))) == snapshot


def test_the_card_of_a_run_that_asked_nothing(snapshot: SnapshotAssertion) -> None:
    assert shown(record(plan([]))) == snapshot


def test_the_card_of_a_crash(snapshot: SnapshotAssertion) -> None:
    told = record(
        plan(sums(3)), {"sum_01": Outcome.CRASHED}, reason="the engine crashed: CUDA error"
    )
    assert shown(told) == snapshot


def test_pending_is_not_shown_as_good() -> None:
    (line,) = (line for line in card(record(plan(sums(3), tier=Tier.SMOKE))) if "MQS" in line.text)
    assert line.style == "warn"


def test_a_rate_just_below_a_threshold_is_not_rounded_up_to_it() -> None:
    made = plan(sums(2001))
    falsified = {f"sum_{n:02}": Outcome.FALSIFIED for n in range(201)}
    assert any("1800/2001 = 89.9 %" in line for line in texts(record(made, falsified)))


HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\nMQS 1000 / 1000\x00\x9b31m\u202e\ud800\x7f\x08 end"


def test_escape_sequences_in_an_answer_are_shown_not_obeyed(snapshot: SnapshotAssertion) -> None:
    told = record(plan(sums(2)), {"sum_01": Outcome.FALSIFIED}, reason=HOSTILE)
    (line,) = (line.text for line in card(told) if "Falsified:" in line.text)
    assert line == snapshot


_hostile = st.text(
    st.characters(codec=None, categories=None) | st.sampled_from(HOSTILE), max_size=60
)


@given(_hostile, st.sampled_from([o for o in Outcome if o is not Outcome.CORROBORATED]))
def test_whatever_a_reason_holds_the_card_is_printable_lines(text: str, outcome: Outcome) -> None:
    told = record(plan(sums(2)), {"sum_01": outcome}, reason=f".{text}", excused=True)
    assert all(line.isprintable() for line in texts(told))


@given(_hostile)
def test_whatever_names_are_in_a_record_the_card_is_printable_lines(text: str) -> None:
    base = record(plan(sums(1)))
    told = base.model_copy(
        update={
            "model": base.model.model_copy(update={"id": text, "revision": text}),
            "playbook": base.playbook.model_copy(update={"name": text}),
            "stopped": text,
        }
    )
    lines = render(told, score_run(told), [text])
    assert all(line.text.isprintable() for line in lines)


@given(st.text(max_size=600))
def test_no_reason_makes_a_line_too_long_to_read(text: str) -> None:
    told = record(plan(sums(2)), {"sum_01": Outcome.FALSIFIED}, reason=f".{text}")
    assert max(map(len, texts(told))) < 240


def test_the_same_record_gives_the_same_card() -> None:
    told = record(plan(sums(4)), {"sum_01": Outcome.FALSIFIED})
    assert card(told) == card(told)
