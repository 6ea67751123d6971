"""What a condition can speak of: names and functions, and what the evidence says each one is."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_aprqa.domain.evidence import Check, Evidence, Outcome, RunRecord
from pytest_aprqa.domain.gateways import Gateway
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.domain.verdict import Ruling

Value = float | str | bool | None
"""None: the evidence does not say."""

ASKED = (Outcome.CORROBORATED, Outcome.FALSIFIED, Outcome.TIMEOUT, Outcome.CRASHED)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a condition is evaluated on: the run, and one of its answers where it speaks of one."""

    record: RunRecord
    answer: Evidence | None = None

    @property
    def told(self) -> str:
        """Which answer, in words."""
        return "the run" if self.answer is None else self.answer.id.rsplit("::", 1)[-1]


def answers(record: RunRecord) -> Sequence[Evidence]:
    """The scenarios that were really asked."""
    return [e for e in record.evidence if e.check is Check.SCENARIO and e.outcome in ASKED]


def exit_code(item: Evidence) -> Value:
    """0 for an answer, 124 for one that took too long (as of `timeout`), -1 for a crash."""
    codes = {Outcome.TIMEOUT: 124.0, Outcome.CRASHED: -1.0}
    return codes.get(item.outcome, 0.0)


def _metric(name: str) -> Callable[[Evidence], Value]:
    def read(item: Evidence) -> Value:
        found = None if item.metrics is None else getattr(item.metrics, name)
        return None if found is None else float(found)

    return read


ANSWER_NAMES: Mapping[str, Callable[[Evidence], Value]] = {
    "output": lambda item: item.output,
    "stdout": lambda item: item.output,
    "prompt": lambda item: item.question,
    "exit_code": exit_code,
    "has_output": lambda item: bool(item.output.strip()),
    "tps": _metric("tokens_per_second"),
    "ttft": _metric("ttft_ms"),
    "duration_ms": _metric("duration_ms"),
    "tokens_generated": _metric("completion_tokens"),
    "backend": lambda item: item.backend,
    "format": lambda item: item.format,
    "modality": lambda item: item.modality,
    "quantization": lambda item: item.quantization,
    "target": lambda item: item.target,
    "scenario": lambda item: item.scenario,
    "valid_output": lambda item: item.outcome is Outcome.CORROBORATED,
    "panic_detected": lambda item: item.outcome is Outcome.CRASHED,
}
"""What each answer says; times are in milliseconds, speeds in tokens a second."""


def _gateways(*names: Gateway) -> Callable[[RunRecord], Value]:
    def passed(record: RunRecord) -> Value:
        found = [r.passed for r in record.gateways if r.gateway in names]
        return all(found) if found else None

    return passed


def _speed(backend: Backend) -> Callable[[RunRecord], Value]:
    def median(record: RunRecord) -> Value:
        found = [
            e.metrics.tokens_per_second
            for e in answers(record)
            if e.backend is backend and e.metrics and e.metrics.tokens_per_second is not None
        ]
        return statistics.median(found) if found else None

    return median


def _judged(oracle: str) -> Callable[[RunRecord], Value]:
    def passes(record: RunRecord) -> Value:
        rulings = [
            verdict.ruling
            for item in answers(record)
            for verdict in item.verdicts
            if verdict.oracle == oracle and verdict.ruling is not Ruling.INAPPLICABLE
        ]
        return all(r is Ruling.CORROBORATED for r in rulings) if rulings else None

    return passes


def _outcomes(record: RunRecord, *, check: Check, names: Sequence[str] = ()) -> list[bool]:
    return [
        item.outcome is Outcome.CORROBORATED
        for item in record.evidence
        if item.check is check and item.outcome in ASKED and (not names or item.scenario in names)
    ]


def _all_of(check: Check, *names: str) -> Callable[[RunRecord], Value]:
    def passed(record: RunRecord) -> Value:
        found = _outcomes(record, check=check, names=names)
        return all(found) if found else None

    return passed


def gate_state(record: RunRecord, gate_id: str) -> Value:
    """Whether every item of a gate that was asked is corroborated."""
    found = [
        item.outcome is Outcome.CORROBORATED
        for item in record.evidence
        if item.gate == gate_id and item.check is not Check.CONDITION and item.outcome in ASKED
    ]
    return all(found) if found else None


def _measured(*names: str) -> Callable[[RunRecord], Value]:
    def largest(record: RunRecord) -> Value:
        found = [
            value
            for item in record.evidence
            for name, value in item.measurements.items()
            if name in names
        ]
        return max(found) if found else None

    return largest


def _formats_pass(record: RunRecord) -> Value:
    by_format: dict[object, list[bool]] = {}
    for item in answers(record):
        by_format.setdefault(item.format, []).append(item.outcome is Outcome.CORROBORATED)
    return all(all(found) for found in by_format.values()) if by_format else None


def _rate(record: RunRecord) -> Value:
    found = _outcomes(record, check=Check.SCENARIO)
    return sum(found) / len(found) if found else None


def _health(record: RunRecord) -> Value:
    found = _outcomes(record, check=Check.SERVE, names=("serve_health",))
    return None if not found else 200.0 if all(found) else 503.0


def _refuted_files(record: RunRecord) -> Value:
    found = [r for r in record.gateways if r.gateway is Gateway.G0]
    return float(sum(not r.passed for r in found)) if found else None


RUN_NAMES: Mapping[str, Callable[[RunRecord], Value]] = {
    "loaded": _gateways(Gateway.G0, Gateway.G1),
    "stable": _gateways(Gateway.G3),
    "answers": _gateways(Gateway.G2),
    "cpu_tps": _speed(Backend.CPU),
    "gpu_tps": _speed(Backend.GPU),
    "pass_rate": _rate,
    "arithmetic_passes": _judged("arithmetic"),
    "code_passes": _judged("code_syntax"),
    "all_formats_pass": _formats_pass,
    "conversions_pass": _all_of(Check.CONVERSION),
    "completions_valid_json": _all_of(Check.SERVE, "serve_completions", "serve_chat"),
    "health_check": _health,
    "reproducible": lambda record: gate_state(record, "F-RUN-005"),
    "deterministic": lambda record: gate_state(record, "F-RUN-005"),
    "diff": _measured("nmse_worst_tensor"),
    "nan_count": _measured("nan_count"),
    "inf_count": _measured("inf_count"),
    "validation_errors": _refuted_files,
}
"""What the run as a whole says."""


def _verdict(oracle: str, ruling: Ruling) -> Callable[[Situation, Sequence[Value]], Value]:
    def found(situation: Situation, _given: Sequence[Value]) -> Value:
        item = situation.answer
        rulings = [] if item is None else [v.ruling for v in item.verdicts if v.oracle == oracle]
        decided = [r for r in rulings if r in (Ruling.CORROBORATED, Ruling.FALSIFIED)]
        return any(r is ruling for r in decided) if decided else None

    return found


def _of_text(read: Callable[[str], Value]) -> Callable[[Situation, Sequence[Value]], Value]:
    def apply(_situation: Situation, given: Sequence[Value]) -> Value:
        return read(given[0]) if isinstance(given[0], str) else None

    return apply


def _contains(_situation: Situation, given: Sequence[Value]) -> Value:
    text, part = given
    return part in text if isinstance(text, str) and isinstance(part, str) else None


def _entropy(text: str) -> Value:
    """Shannon entropy of the characters, in bits."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts) if text else 0.0


def _unprintable(text: str) -> Value:
    return any(not char.isprintable() and char not in "\n\t\r" for char in text)


def _repetition(text: str) -> Value:
    words = text.split()
    return max(Counter(words).values()) / len(words) if words else 0.0


def _file_exists(situation: Situation, given: Sequence[Value]) -> Value:
    files = situation.record.model.files
    return None if not files else any(name.endswith(str(given[0])) for name in files)


def _gate(situation: Situation, given: Sequence[Value]) -> Value:
    return gate_state(situation.record, str(given[0]))


@dataclass(frozen=True, slots=True)
class Function:
    """A function of conditions: how many values it takes, and what it makes of them."""

    takes: int
    apply: Callable[[Situation, Sequence[Value]], Value]
    of_answer: bool = False
    """Whether it speaks of one answer even where no name of one stands in it."""


FUNCTIONS: Mapping[str, Function] = {
    "is_garbage": Function(1, _verdict("garbage", Ruling.FALSIFIED), of_answer=True),
    "arithmetic_oracle": Function(2, _verdict("arithmetic", Ruling.CORROBORATED), of_answer=True),
    "len": Function(1, _of_text(lambda text: float(len(text)))),
    "length": Function(1, _of_text(lambda text: float(len(text)))),
    "contains": Function(2, _contains),
    "unique_chars": Function(1, _of_text(lambda text: float(len(set(text))))),
    "shannon_entropy": Function(1, _of_text(_entropy)),
    "max_repetition_ratio": Function(1, _of_text(_repetition)),
    "has_non_printable": Function(1, _of_text(_unprintable)),
    "file_exists": Function(1, _file_exists),
    "gate": Function(1, _gate),
}
"""What can be called; `output.len()` is `len(output)`."""


def known_names() -> Iterator[str]:
    """Every name and function, for messages."""
    yield from ANSWER_NAMES
    yield from RUN_NAMES
    yield from (f"{name}()" for name in FUNCTIONS)
