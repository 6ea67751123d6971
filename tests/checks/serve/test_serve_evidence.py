"""Every way in which a gate can end is an outcome."""

from __future__ import annotations

import pytest

from pytest_aprqa.checks.blank import blank_gate
from pytest_aprqa.checks.serve.gates import try_gate
from pytest_aprqa.checks.serve.prompts import ServePrompts
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import Check, Evidence, Outcome
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization, Severity
from pytest_aprqa.domain.model_gates import GateCase
from pytest_aprqa.domain.playbook import Category
from pytest_aprqa.domain.serve import ServeGate
from pytest_aprqa.domain.verdict import Ruling
from tests.checks.serve.conftest import InProcess, Starter

TARGET = Target("org/model", Format.GGUF, Quantization.Q8_0, Backend.CPU)
KEY = "sesame-1234"


def tried(gate: ServeGate, served: InProcess, timeout_s: float = 10.0) -> Evidence:
    prompts = ServePrompts(timeout_s=timeout_s)
    return try_gate(gate, served, prompts, target=TARGET, item_id="file::target::item")


def test_a_pass_says_what_was_seen(serve: Starter) -> None:
    evidence = tried(ServeGate.COMPLETIONS, serve())
    assert evidence.outcome is Outcome.CORROBORATED
    assert evidence.check is Check.SERVE
    assert evidence.id == "file::target::item"
    assert evidence.target == "gguf-q8_0-cpu"
    assert evidence.modality is Modality.SERVE
    assert evidence.scenario == "serve_completions"
    assert evidence.severity is Severity.P0
    assert evidence.category is Category.COMP
    (verdict,) = evidence.verdicts
    assert verdict.oracle == "serve_completions"
    assert verdict.ruling is Ruling.CORROBORATED
    assert verdict.reason == evidence.reason
    assert evidence.measurements == {"answers": 10.0, "answers_with_text": 10.0}
    assert "POST /v1/completions" in evidence.output
    assert evidence.engine["model"] == "scripted"


def test_a_refutation_is_falsified(serve: Starter) -> None:
    evidence = tried(ServeGate.USAGE, serve("usage_total"))
    assert evidence.outcome is Outcome.FALSIFIED
    assert not evidence.excused
    assert evidence.verdicts[0].ruling is Ruling.FALSIFIED


def test_what_does_not_apply_is_skipped_with_an_excuse(serve: Starter) -> None:
    evidence = tried(ServeGate.CHAT, serve("no_template"))
    assert evidence.outcome is Outcome.SKIPPED
    assert evidence.excused
    assert "no chat template" in evidence.reason


def test_a_server_that_died_has_crashed_and_its_log_is_kept(serve: Starter) -> None:
    evidence = tried(ServeGate.ERRORS, serve("bad_json_dies"))
    assert evidence.outcome is Outcome.CRASHED
    assert "after bad JSON" in evidence.reason or "bad JSON: " in evidence.reason
    assert evidence.reason.endswith("it runs no more")
    assert evidence.diagnosis == "the log's last line"
    assert evidence.verdicts == ()


def test_a_server_that_is_gone_has_crashed(serve: Starter) -> None:
    served = serve()
    served.server.close()
    evidence = tried(ServeGate.HEALTH, served)
    assert evidence.outcome is Outcome.CRASHED
    assert "ConnectError" in evidence.reason


def test_a_broken_connection_has_crashed_though_the_server_runs(serve: Starter) -> None:
    evidence = tried(ServeGate.STREAM, serve("stream_broken"))
    assert evidence.outcome is Outcome.CRASHED
    assert evidence.reason.endswith("it still runs")


def test_a_silent_server_has_timed_out(serve: Starter) -> None:
    evidence = tried(ServeGate.COMPLETIONS, serve("silent"), timeout_s=0.3)
    assert evidence.outcome is Outcome.TIMEOUT
    assert evidence.reason == "the server gave no whole answer within 0.3 s"
    assert evidence.diagnosis == "the log's last line"


def test_a_gate_that_was_not_asked_has_no_verdict() -> None:
    evidence = blank_gate(GateCase(ServeGate.MEMORY, TARGET), "an id", Outcome.BLOCKED, "G1 fell")
    assert evidence.outcome is Outcome.BLOCKED
    assert evidence.question == "memory does not grow with requests"
    assert evidence.severity is Severity.P1
    assert evidence.verdicts == ()


@pytest.mark.parametrize("gate", [g for g in ServeGate if g is not ServeGate.SHUTDOWN])
@pytest.mark.parametrize("faults", [(), ("key_told", "busy_always")])
def test_a_key_is_sent_and_stands_in_no_evidence(
    serve: Starter, gate: ServeGate, faults: tuple[str, ...]
) -> None:
    served = serve("key_wanted", *faults)
    served.sent = {"Authorization": f"Bearer {KEY}"}
    evidence = tried(gate, served)
    if not faults:
        assert evidence.outcome is Outcome.CORROBORATED, evidence
    assert served.server.state.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in evidence.model_dump_json()


def test_a_repeated_key_is_hidden(serve: Starter) -> None:
    served = serve("key_told", "completion_500")
    served.sent = {"Authorization": f"Bearer {KEY}"}
    evidence = tried(ServeGate.COMPLETIONS, served)
    assert "out of memory [key]" in evidence.reason
    assert KEY not in evidence.model_dump_json()


@pytest.mark.parametrize("prompts", [("a",) * 8, tuple("abcdefg")])
def test_prompts_are_eight_different_ones(prompts: tuple[str, ...]) -> None:
    with pytest.raises(AprqaError, match="at least 8 prompts, all different"):
        ServePrompts(prompts)
