"""Put one case to a loaded model and judge the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.domain.case import Case
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import (
    Evidence,
    Metrics,
    Outcome,
    RequestRecord,
    VerdictRecord,
)
from pytest_aprqa.domain.gate_ids import gate_id
from pytest_aprqa.domain.model import Modality
from pytest_aprqa.domain.verdict import Ruling, Verdict
from pytest_aprqa.engines.engine import ContextOverflow, EngineCrashed, EngineHung, NoChatTemplate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_aprqa.engines.engine import Engine

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Answered:
    """The last completion of a conversation, and what was sent for it."""

    completion: Completion
    request: GenerationRequest


def blank_evidence(case: Case, item_id: str, outcome: Outcome, reason: str) -> Evidence:
    """Evidence of a case that was not asked: skipped, blocked, or gone with its process."""
    return Evidence(
        id=item_id,
        target=case.target.name,
        format=case.target.format,
        quantization=case.target.quantization,
        backend=case.target.backend,
        modality=case.modality,
        scenario=case.scenario,
        gate=gate_id(case.modality, case.target.backend),
        category=case.category,
        severity=case.severity,
        outcome=outcome,
        reason=reason,
        question="\n".join(case.turns),
    )


def try_case(case: Case, engine: Engine, item_id: str) -> Evidence:
    """Ask the case and judge the answer; every way it can end is an outcome.

    Raises:
        AprqaError: when the playbook names an oracle that cannot judge the question.
    """
    blank = blank_evidence(case, item_id, Outcome.SKIPPED, "")
    try:
        answered = _converse(case, engine)
    except EngineCrashed as crash:
        return blank.model_copy(
            update={
                **ending_of(crash),
                "diagnosis": crash.traceback_tail.strip("\n"),
                "request": _request_record(first_request(case)),
                "engine": dict(engine.describe()),
            }
        )
    except (NoChatTemplate, ContextOverflow) as unaskable:
        return blank.model_copy(update={"reason": str(unaskable), "excused": True})
    completion = answered.completion
    asked: Mapping[str, object] = {
        "rendered_prompt": completion.rendered_prompt,
        "output": completion.text,
        "output_token_ids": completion.token_ids,
        "diagnosis": completion.diagnosis,
        "request": _request_record(answered.request),
        "metrics": metrics_of(completion),
        "engine": dict(engine.describe()),
    }
    if completion.finish_reason is FinishReason.TIMEOUT:
        reason = (
            f"no complete answer within {case.timeout_ms} ms; "
            f"{completion.completion_tokens} tokens were generated"
        )
        return blank.model_copy(update={**asked, "outcome": Outcome.TIMEOUT, "reason": reason})
    verdicts = _judge(case, completion.text)
    return blank.model_copy(update={**asked, **_conclude(verdicts)})


def ending_of(crash: EngineCrashed) -> dict[str, object]:
    """The outcome of an engine that broke, and why: one that hung ran out of time."""
    if isinstance(crash, EngineHung):
        return {"outcome": Outcome.TIMEOUT, "reason": crash.error}
    return {"outcome": Outcome.CRASHED, "reason": f"the engine crashed: {crash.error}"}


def metrics_of(completion: Completion) -> Metrics:
    """A completion's figures as evidence."""
    speed = completion.tokens_per_second
    return Metrics(
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        finish_reason=completion.finish_reason,
        ttft_ms=None if completion.ttft_s is None else round(completion.ttft_s * 1000, 3),
        duration_ms=round(completion.total_s * 1000, 3),
        tokens_per_second=None if speed is None else round(speed, 2),
        memory_peak_mib=round(completion.peak_memory_bytes / _MEBIBYTE, 1),
        batch_size=completion.batch_size,
    )


def _converse(case: Case, engine: Engine) -> _Answered:
    """Ask turn after turn, each answer becoming part of the chat; the last one is judged."""
    history: tuple[Message, ...] = ()
    if case.system is not None:
        history = (Message("system", case.system),)
    plain = _is_plain(case, engine)
    for turn in case.turns:
        request = _request(case, history, turn, plain=plain)
        completion = engine.generate(request)
        if completion.finish_reason is FinishReason.TIMEOUT:
            break
        history = (*history, Message("user", turn), Message("assistant", completion.text))
    return _Answered(completion, request)


def first_request(case: Case) -> GenerationRequest:
    """What the engine is asked first for a case."""
    history = () if case.system is None else (Message("system", case.system),)
    return _request(case, history, case.turns[0], plain=case.modality is Modality.RUN)


def _is_plain(case: Case, engine: Engine) -> bool:
    """Whether prompts are completed; a server of a model without a chat template completes too.

    Raises:
        NoChatTemplate: such a model has no way to be asked several turns, or with a system text.
    """
    if case.modality is not Modality.SERVE or engine.has_chat_template:
        return case.modality is Modality.RUN
    if case.system is not None or len(case.turns) > 1:
        raise NoChatTemplate("the model has no chat template for turns or a system text")
    return True


def _request(
    case: Case, history: tuple[Message, ...], turn: str, *, plain: bool
) -> GenerationRequest:
    return GenerationRequest(
        prompt=turn if plain else None,
        messages=() if plain else (*history, Message("user", turn)),
        max_tokens=case.max_tokens,
        temperature=case.temperature,
        seed=case.seed,
        stop=case.stop,
        timeout_s=case.timeout_ms / 1000,
    )


def _request_record(request: GenerationRequest) -> RequestRecord:
    return RequestRecord(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed,
        stop=request.stop,
        timeout_ms=round(request.timeout_s * 1000),
    )


def _judge(case: Case, text: str) -> tuple[Verdict, ...]:
    from pytest_aprqa.oracles import build_oracle

    named = [build_oracle(spec).judge(case.question, text) for spec in case.judging.named]
    unable = [verdict for verdict in named if verdict.ruling is Ruling.INAPPLICABLE]
    if unable:
        raise AprqaError(
            f"{case.scenario}: the oracle {unable[0].oracle} cannot judge {case.question!r}:"
            f" {unable[0].reason}; give the scenario `expected`, or another oracle"
        )
    offered = [build_oracle(spec).judge(case.question, text) for spec in case.judging.offered]
    ruled = [verdict for verdict in offered if verdict.ruling is not Ruling.INAPPLICABLE]
    if not named and not ruled:
        raise AprqaError(
            f"{case.scenario}: none of the oracles applies to {case.question!r}; "
            "name one in the scenario"
        )
    return (*named, *offered)


def _conclude(verdicts: tuple[Verdict, ...]) -> Mapping[str, object]:
    """Falsified if one oracle says so; the first such reason leads."""
    falsified = [verdict for verdict in verdicts if verdict.falsified]
    corroborated = [verdict for verdict in verdicts if verdict.corroborated]
    leading = falsified[0] if falsified else corroborated[0]
    return {
        "outcome": Outcome.FALSIFIED if falsified else Outcome.CORROBORATED,
        "reason": f"{leading.oracle}: {leading.reason}",
        "verdicts": tuple(
            VerdictRecord(oracle=v.oracle, ruling=v.ruling, reason=v.reason) for v in verdicts
        ),
    }
