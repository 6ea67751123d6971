"""Every gate passes a healthy server, and catches each fault that is planted for it."""

from __future__ import annotations

import pytest

from pytest_aprqa.checks.finding import Finding
from pytest_aprqa.checks.serve import resilience
from pytest_aprqa.checks.serve.gates import GATES, run_gate
from pytest_aprqa.checks.serve.prompts import ServePrompts
from pytest_aprqa.domain.serve import ServeGate
from pytest_aprqa.domain.verdict import Ruling
from pytest_aprqa.engines.endpoint_http import Silent, Unreachable
from tests.checks.serve.conftest import InProcess, NotOurs, OwnProcess, Starter

PROMPTS = ServePrompts(timeout_s=10.0, stop_s=10.0)
HASTY = ServePrompts(timeout_s=2.0)

FAULTS = [
    ("health", "health_500", "GET /health answers 500"),
    ("health", "no_health", "GET /health answers 404"),
    ("models", "models_other", "names other; expected scripted among them"),
    ("models", "models_schema", "'owned_by' is a required property"),
    ("models", "models_500", "/v1/models answered 500: "),
    ("completions", "completion_empty", "all 10 answers of /v1/completions are empty"),
    ("completions", "completion_no_id", "'id' is a required property"),
    ("completions", "completion_not_json", "answered fine; expected JSON"),
    ("completions", "completion_500", "answered 500: out of memory; expected 200"),
    ("completions", "no_completions", "answered 404"),
    ("chat", "chat_empty", "all 10 answers of /v1/chat/completions are empty"),
    ("chat", "chat_role", "message.role: 'assistant' was expected"),
    ("stream", "stream_chunk_lost", "the text streamed is"),
    ("stream", "stream_swapped", "the text streamed is"),
    ("stream", "stream_no_done", "without [DONE]"),
    ("stream", "stream_after_done", "after [DONE] the stream goes on with"),
    ("stream", "stream_two_reasons", "after finish_reason 'stop' a chunk brings"),
    ("stream", "stream_text_after", "after finish_reason 'stop' a chunk brings"),
    ("stream", "stream_no_reason", "chunks has a finish_reason"),
    ("stream", "stream_ids", "have 2 ids"),
    ("stream", "stream_line", "a line of the stream is 'chunk: {}'; expected `data: ...`"),
    ("stream", "stream_type", "Content-Type is 'text/plain'"),
    ("stream", "error_in_stream", "'id' is a required property"),
    ("usage", "usage_total", "expected a total of"),
    ("usage", "usage_prompt_zero", "expected prompt_tokens above 0"),
    ("usage", "usage_too_many", "expected completion_tokens 4"),
    ("usage", "usage_length", "expected completion_tokens 4"),
    ("usage", "usage_prompt_constant", "three times as long 7; expected more"),
    ("usage", "usage_prompt_random", "one prompt has"),
    ("usage", "usage_streamed", "usage streamed is"),
    ("stop", "stop_ignored", "with stop"),
    ("stop", "stop_kept", "with stop"),
    ("stop", "stop_list", "with stop ["),
    ("stop", "stop_streamed", "with stop ["),
    ("stop", "stop_reason", "finish_reason 'length'; expected stop"),
    ("max_tokens", "max_tokens_ignored", "with max_tokens 1 counts"),
    ("max_tokens", "max_tokens_reason", "finish_reason 'stop'; expected length"),
    ("max_tokens", "max_tokens_short", "with max_tokens 1 counts 0 tokens; expected 1"),
    ("max_tokens", "max_tokens_other", "expected the start of"),
    ("seed", "seed_ignored", "at temperature 1 gives"),
    ("logprobs", "logprobs_positive", "has the log probability 0.5; expected at most 0"),
    ("logprobs", "logprobs_nan", "has the log probability nan"),
    ("logprobs", "logprobs_sum", "sum to 1.2051; expected at most 1"),
    ("logprobs", "logprobs_not_greedy", "expected"),
    ("logprobs", "logprobs_chosen_missing", "is not among the most probable tokens"),
    ("concurrent", "mixed_up", "of 64 answers differ at once"),
    ("concurrent", "busy_at_once", "answered 429: too many requests; expected 200"),
    ("errors", "bad_json_500", "bad JSON gets 500"),
    ("errors", "bad_json_drops", "bad JSON: RemoteProtocolError"),
    ("errors", "model_500", "an unknown model gets 500"),
    ("errors", "negative_200", "negative max_tokens gets 200"),
    ("errors", "overlong_200", "an over-long prompt gets 200"),
    ("errors", "overlong_500", "an over-long prompt gets 500"),
    ("errors", "method_200", "a wrong method gets 200"),
    ("errors", "sick_after_error", "after bad JSON"),
]


def run(gate: str, served: InProcess, prompts: ServePrompts = PROMPTS) -> Finding:
    return run_gate(ServeGate(gate), served, prompts)


def test_every_gate_has_a_check_and_a_planted_fault() -> None:
    elsewhere = {ServeGate.DISCONNECT, ServeGate.MEMORY, ServeGate.SHUTDOWN}
    assert set(GATES) == set(ServeGate)
    assert {ServeGate(gate) for gate, _, _ in FAULTS} | elsewhere == set(ServeGate)


@pytest.mark.parametrize("gate", [g for g in ServeGate if g is not ServeGate.SHUTDOWN])
def test_a_healthy_server_passes(serve: Starter, gate: ServeGate) -> None:
    finding = run_gate(gate, serve(), PROMPTS)
    assert finding.ruling is Ruling.CORROBORATED, finding
    assert finding.reason
    assert finding.details


@pytest.mark.parametrize(("gate", "fault", "told"), FAULTS)
def test_a_planted_fault_is_caught(serve: Starter, gate: str, fault: str, told: str) -> None:
    finding = run(gate, serve(fault))
    assert finding.ruling is Ruling.FALSIFIED, finding
    assert told in finding.reason
    assert "\n" not in finding.reason


@pytest.mark.parametrize(
    ("gate", "fault", "told"),
    [
        ("chat", "no_template", "the model has no chat template"),
        ("seed", "always_greedy", "whether the seed acts cannot be seen"),
        ("logprobs", "no_logprobs", "tell no log probabilities"),
        ("logprobs", "logprobs_refused", "tell no log probabilities"),
        ("concurrent", "all_alike", "a mix-up could not be seen"),
        ("stop", "completion_empty chat_empty", "no answer is long enough"),
        ("stream", "completion_empty chat_empty", "every streamed answer is empty"),
        ("max_tokens", "completion_empty chat_empty", "every answer ends by itself"),
    ],
)
def test_what_cannot_be_seen_is_no_pass(serve: Starter, gate: str, fault: str, told: str) -> None:
    finding = run(gate, serve(*fault.split()))
    assert finding.ruling is Ruling.INAPPLICABLE, finding
    assert told in finding.reason


@pytest.mark.parametrize("gate", ["stream", "usage", "stop", "max_tokens", "logprobs"])
def test_without_a_chat_template_completions_are_asked_alone(serve: Starter, gate: str) -> None:
    finding = run(gate, serve("no_template"))
    assert finding.ruling is Ruling.CORROBORATED, finding
    assert any("not asked: /v1/chat/completions" in line for line in finding.details)


def test_log_probabilities_in_the_other_shape_are_read(serve: Starter) -> None:
    assert run("logprobs", serve("logprobs_chat_shape")).ruling is Ruling.CORROBORATED
    finding = run("logprobs", serve("logprobs_chat_shape", "logprobs_positive"))
    assert finding.ruling is Ruling.FALSIFIED


def test_a_server_that_answers_for_any_model_is_remarked(serve: Starter) -> None:
    finding = run("errors", serve("model_200"))
    assert finding.ruling is Ruling.CORROBORATED, finding
    assert any("answers for whatever model is named" in line for line in finding.details)


def test_an_error_without_a_message_is_caught(serve: Starter) -> None:
    finding = run("errors", serve("no_message"))
    assert finding.ruling is Ruling.FALSIFIED
    assert "without a message; expected one" in finding.reason


def test_a_wrong_request_that_hangs_is_caught(serve: Starter) -> None:
    finding = run("errors", serve("bad_json_hangs"), HASTY)
    assert finding.ruling is Ruling.FALSIFIED
    assert "bad JSON: no whole answer within 2 s" in finding.reason


def test_a_server_that_dies_of_a_wrong_request_is_no_finding(serve: Starter) -> None:
    with pytest.raises(Unreachable, match="bad JSON"):
        run("errors", serve("bad_json_dies"))


def test_a_silent_server_is_no_finding(serve: Starter) -> None:
    with pytest.raises(Silent, match=r"no whole answer within 2 s"):
        run("completions", serve("silent"), HASTY)


def test_a_probe_of_another_name_does_for_a_server_that_is_not_ours(serve: Starter) -> None:
    finding = run("health", serve("no_health", kind=NotOurs))
    assert finding.ruling is Ruling.INAPPLICABLE
    assert "none of the probes" in finding.reason


def test_a_slot_that_is_never_freed_is_caught(
    serve: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilience, "LEAST_LIMIT_S", 1.0)
    finding = run("disconnect", serve("slots_leak"))
    assert finding.ruling is Ruling.FALSIFIED, finding
    assert "expected their slots to be free" in finding.reason


@pytest.mark.parametrize("faults", [("no_ignore_eos", "short_context"), ("short_context",)])
def test_a_long_stream_is_as_long_as_the_server_takes(
    serve: Starter, faults: tuple[str, ...]
) -> None:
    finding = run("disconnect", serve(*faults))
    assert any("long streams are of" in line and "256" in line for line in finding.details)


@pytest.mark.parametrize(
    ("per_request", "ruling"),
    [
        (0, Ruling.CORROBORATED),
        (100 * 1024, Ruling.CORROBORATED),
        (300 * 1024, Ruling.FALSIFIED),
    ],
)
def test_memory_may_grow_by_16_mib_or_5_percent(
    serve: Starter, per_request: int, ruling: Ruling
) -> None:
    finding = run("memory", serve(per_request=per_request))
    assert finding.ruling is ruling, finding
    assert finding.measurements["memory_growth_mib"] == pytest.approx(
        100 * per_request / 2**20, abs=0.01
    )


@pytest.mark.parametrize("gate", ["memory", "shutdown"])
def test_what_only_the_owner_may_do_does_not_apply(serve: Starter, gate: str) -> None:
    finding = run(gate, serve(kind=NotOurs))
    assert finding.ruling is Ruling.INAPPLICABLE


def test_sigterm_ends_a_healthy_server(serve: Starter) -> None:
    served = serve(kind=OwnProcess)
    finding = run("shutdown", served)
    assert finding.ruling is Ruling.CORROBORATED, finding
    assert "its stream was cut" in finding.reason
    assert not served.alive


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("sigterm_ignored", "was killed after 0.5 s; expected a clean end within 0.5 s"),
        ("sigterm_slow", "was killed after 0.5 s"),
        ("sigterm_status", "ended with status 3; expected a clean end"),
    ],
)
def test_a_server_that_does_not_end_cleanly_is_caught(
    serve: Starter, fault: str, told: str
) -> None:
    # A status is told by a server that has the time to end; the others have none.
    prompts = ServePrompts(timeout_s=10.0, stop_s=20.0 if fault == "sigterm_status" else 0.5)
    finding = run("shutdown", serve(fault, kind=OwnProcess), prompts)
    assert finding.ruling is Ruling.FALSIFIED, finding
    assert told in finding.reason
