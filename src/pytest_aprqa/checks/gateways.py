"""The five gateways: what each asks of a target, and what it says when the answer is no."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.gateways import Gateway, GatewayResult
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.oracle_spec import GarbageSpec
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.engine import EngineCrashed, InvalidRequest, LoadFailed, NoChatTemplate
from pytest_aprqa.formats.atomic import UnwritableError
from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.integrity_finding import Expectations
    from pytest_aprqa.domain.verdict import Verdict
    from pytest_aprqa.engines.engine import Engine

PROBE_TIMEOUT_S = 120.0
"""Limit of one probe. A playbook's `timeout_ms` bounds scenarios, not the gateways."""
PROBE_TOKENS = 48
"""Tokens of a probe's answer: enough text, some 150 characters, to tell soup from sense."""
SECOND_TEMPERATURE = 0.8
SECOND_SEEDS = (1, 2)
"""Sampling of the further answers to a probe whose greedy answer was garbage."""
_SHOWN = 100

PLAIN_PROBES = ("The capital of France is", "2 + 2 =", "Once upon a time")
CHAT_PROBES = ("Hello", "What is 2 + 2?", "Who are you? Answer in one sentence.")
JUDGED_FROM = 12
"""Characters from which an answer says something about garbage; "122" is neither."""
STRESS_PROBES = (
    "\u00e9\u00e8\u00fc \u4f60\u597d\u4e16\u754c \u041f\u0440\u0438\u0432\u0435\u0442 \U0001f389",
    " ",
    "a" * 64,
    "{}[]()<>\"'`;:\n\t\\0",
)


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One probe and the model's answer to it."""

    question: str
    chat: bool
    completion: Completion

    def __str__(self) -> str:
        kind = "chat" if self.chat else "run"
        text = self.completion.text
        shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
        return f"{kind} {self.question!r} → {shown!r}"


def check_integrity(
    target: str,
    directory: Path,
    expectations: Expectations | None,
    *,
    format_: Format = Format.SAFETENSORS,
    quantization: Quantization | None = None,
    given: Path | None = None,
) -> tuple[GatewayResult, Path]:
    """G0: config, tokenizer and every shard's header and values agree; nothing is executable.

    A target in another format is converted from the directory, found made or made now, unless a
    file of it is `given`; that file is looked into as well, and the path that comes with the
    result is what the engine loads.
    """
    from pytest_aprqa.checks.integrity import inspect

    began = time.perf_counter()
    report = inspect(directory, expectations=expectations)
    file, details = directory, [f"not judged: {text}" for text in report.not_judged]
    findings = [finding.message for finding in report.findings]
    if not findings and format_ is not Format.SAFETENSORS:
        file, findings, notes = (
            _derived(directory, format_, quantization) if given is None else _given(given)
        )
        details += notes
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        reason = findings[0] + more
        return _result(Gateway.G0, target, False, reason, findings + details, began), file
    return _result(Gateway.G0, target, True, Gateway.G0.assertion, details, began), file


def _derived(
    directory: Path, format_: Format, quantization: Quantization | None
) -> tuple[Path, list[str], list[str]]:
    """The file that is made of a directory, what is wrong with it, and how it came about."""
    from pytest_aprqa.checks.file_validation import validate_file
    from pytest_aprqa.conversion.cache import converted, known_content
    from pytest_aprqa.conversion.portable import ConversionError

    try:
        made = converted(directory, format_, quantization)
    except UnwritableError:
        raise
    except (ConversionError, CheckpointError) as error:
        problem = f"{directory}: cannot be converted to {format_}: {one_line(error)}"
        return directory, [problem], []
    report = validate_file(made.destination)
    how = "found in the cache" if made.cached else "converted"
    digests = ", ".join(known_content(made.destination).values())
    notes = [f"{how}: {made.destination.name}, {made.nbytes} bytes, SHA-256 {digests}"]
    notes += [f"not judged: {text}" for text in report.not_judged]
    notes += [f"not as the original: {text}" for text in made.remarks]
    return made.destination, [finding.message for finding in report.findings], notes


def _given(file: Path) -> tuple[Path, list[str], list[str]]:
    """A file that was there before, and what is wrong with it."""
    from pytest_aprqa.checks.file_validation import validate_file

    if not file.is_file():
        return file, [f"{file}: there is no such file; model.files names it"], []
    report = validate_file(file)
    notes = [f"given: {file.name}, {file.stat().st_size} bytes"]
    notes += [f"not judged: {text}" for text in report.not_judged]
    return file, [finding.message for finding in report.findings], notes


def check_load(target: str, load: Callable[[], Engine]) -> tuple[GatewayResult, Engine | None]:
    """G1: the engine loads the model; the engine comes with a pass and only then."""
    began = time.perf_counter()
    try:
        engine = load()
    except LoadFailed as failure:
        return _result(Gateway.G1, target, False, str(failure), [], began), None
    details = [f"{key}: {value}" for key, value in engine.describe().items()]
    reason = f"loaded by {engine.name} {engine.version} on {engine.device}"
    return _result(Gateway.G1, target, True, reason, details, began), engine


def check_answers(target: str, engine: Engine) -> tuple[GatewayResult, tuple[ProbeAnswer, ...]]:
    """G2: every plain probe, and every chat probe where there is a template, gets an answer."""
    began = time.perf_counter()
    answers: list[ProbeAnswer] = []
    absences: list[str] = []
    for question, chat in _probes(engine):
        try:
            answers.append(_ask(engine, question, chat=chat))
        except EngineCrashed as crash:
            reason = f"the engine crashed on {question!r}: {crash.error}"
            details = [*map(str, answers), crash.traceback_tail]
            return _result(Gateway.G2, target, False, reason, details, began), tuple(answers)
        except NoChatTemplate as absent:  # an endpoint tells only when it is asked
            absences.append(f"{question!r} not asked as a chat: {absent}")
        except InvalidRequest as refused:
            reason = f"the model cannot be asked {question!r}: {refused}"
            details = [str(answer) for answer in answers]
            return _result(Gateway.G2, target, False, reason, details, began), tuple(answers)
    silent = [a for a in answers if not a.completion.text.strip()]
    late = [a for a in answers if a.completion.finish_reason is FinishReason.TIMEOUT]
    details = [*map(str, answers), *absences]
    if late:
        reason = f"no complete answer to {late[0].question!r} within {PROBE_TIMEOUT_S:.0f} s"
        return _result(Gateway.G2, target, False, reason, details, began), tuple(answers)
    if silent:
        reason = f"{len(silent)} of {len(answers)} answers are empty, the first to "
        reason += repr(silent[0].question)
        return _result(Gateway.G2, target, False, reason, details, began), tuple(answers)
    reason = f"{len(answers)} of {len(answers)} probes answered"
    return _result(Gateway.G2, target, True, reason, details, began), tuple(answers)


def check_no_crash(target: str, engine: Engine) -> GatewayResult:
    """G3 in its probes: unusual prompts crash nothing. A crash in a later item fails it too."""
    began = time.perf_counter()
    details: list[str] = []
    for question in STRESS_PROBES:
        for chat in (False, True) if engine.has_chat_template else (False,):
            try:
                details.append(str(_ask(engine, question, chat=chat)))
            except EngineCrashed as crash:
                reason = f"the engine crashed on {question!r}: {crash.error}"
                details.append(crash.traceback_tail)
                return _result(Gateway.G3, target, False, reason, details, began)
            except InvalidRequest as refused:
                details.append(f"{question!r} refused: {refused}")
    return _result(Gateway.G3, target, True, "no probe crashed the engine", details, began)


def check_not_garbage(target: str, engine: Engine, answers: Sequence[ProbeAnswer]) -> GatewayResult:
    """G4: fewer than half of G2's answers are garbage, greedy and sampled.

    Answers too short to tell are left out, unless all are.
    A healthy base model may loop on a short prompt under greedy decoding, so an answer that was
    garbage is asked for again with sampling, which breaks loops and leaves soup what it is; every
    sampled answer must then be sound.
    """
    began = time.perf_counter()
    bad: list[tuple[ProbeAnswer, Verdict]] = []
    details: list[str] = []
    telling = [a for a in answers if len(a.completion.text.strip()) >= JUDGED_FROM] or answers
    for answer in telling:
        verdict = _judge(answer)
        details.append(f"{answer}: {verdict.ruling}: {verdict.reason}")
        if verdict.corroborated:
            continue
        try:
            again = [_ask_again(engine, answer, seed) for seed in SECOND_SEEDS]
        except EngineCrashed as crash:
            reason = f"the engine crashed on {answer.question!r}: {crash.error}"
            return _result(Gateway.G4, target, False, reason, details, began)
        except InvalidRequest as refused:  # an engine that cannot sample: its answer stands
            details.append(f"not sampled: {refused}")
            bad.append((answer, verdict))
            continue
        verdicts = [_judge(other) for other in again]
        details += [f"sampled {a}: {v.ruling}" for a, v in zip(again, verdicts, strict=True)]
        if not all(other.corroborated for other in verdicts):
            bad.append((answer, verdict))
    if bad and 2 * len(bad) >= len(telling):
        first, verdict = bad[0]
        reason = f"{len(bad)} of {len(telling)} answers are garbage, the first to "
        reason += f"{first.question!r}: {verdict.reason}"
        return _result(Gateway.G4, target, False, reason, details, began)
    reason = f"{len(telling) - len(bad)} of {len(telling)} answers are not garbage"
    return _result(Gateway.G4, target, bool(telling), reason, details, began)


def _judge(answer: ProbeAnswer) -> Verdict:
    from pytest_aprqa.oracles import build_oracle

    return build_oracle(GarbageSpec()).judge(answer.question, answer.completion.text)


def _probes(engine: Engine) -> list[tuple[str, bool]]:
    plain = [(question, False) for question in PLAIN_PROBES]
    chat = [(question, True) for question in CHAT_PROBES]
    return plain + chat if engine.has_chat_template else plain


def _ask_again(engine: Engine, answer: ProbeAnswer, seed: int) -> ProbeAnswer:
    return _ask(
        engine, answer.question, chat=answer.chat, temperature=SECOND_TEMPERATURE, seed=seed
    )


def _ask(
    engine: Engine, question: str, *, chat: bool, temperature: float = 0.0, seed: int = 0
) -> ProbeAnswer:
    request = GenerationRequest(
        prompt=None if chat else question,
        messages=(Message("user", question),) if chat else (),
        max_tokens=PROBE_TOKENS,
        temperature=temperature,
        seed=seed,
        timeout_s=PROBE_TIMEOUT_S,
    )
    return ProbeAnswer(question, chat, engine.generate(request))


def _result(
    gateway: Gateway,
    target: str,
    passed: bool,
    reason: str,
    details: Sequence[str],
    began: float,
) -> GatewayResult:
    return GatewayResult(
        gateway=gateway,
        target=target,
        passed=passed,
        reason=reason,
        details=tuple(details),
        duration_s=round(time.perf_counter() - began, 4),
    )
