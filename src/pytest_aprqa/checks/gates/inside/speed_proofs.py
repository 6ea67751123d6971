"""The speed gates are seen to fail: engines that tell known times, and memory that grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.inside.speed import profiled
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, Tampered, shared
from pytest_aprqa.domain.sections import Sections

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

STEP_S = 0.002
FIRST_S = 0.004
MEASURED = 8
LIMITS = {
    "min_throughput": 100.0,
    "max_p50_ms": 3.0,
    "max_p99_ms": 10.0,
    "max_ttft_ms": 8.0,
    "max_memory_growth": 0.1,
}
Clock = Callable[[int, int], tuple[float, ...]]
"""From the number of a request and how many tokens it makes, when each token is there."""


def steady(_request: int, tokens: int) -> tuple[float, ...]:
    """Five hundred tokens a second after the first."""
    return tuple(FIRST_S + STEP_S * i for i in range(tokens))


def timed_lab(bench: ProofBench, clock: Clock = steady, **settings: Any) -> Lab:
    """The embedded model, whose answers tell the clock's times, with limits for all that is."""
    asked = [0]

    def generate(engine: Any, request: Any) -> Any:
        asked[0] += 1
        answer = engine.generate(request)
        times = clock(asked[0], len(answer.token_ids))
        return replace(answer, ttft_s=times[0], total_s=times[-1], token_s=times)

    section = {"assertions": LIMITS, "warmup": 1, "measure": MEASURED, **settings}
    sections = Sections.model_validate({"profile_ci": section})
    engine = Tampered(bench.engine(), generate=generate)
    return bench.target_lab(engine=engine, sections=sections)


def _every_third_hangs(_request: int, tokens: int) -> tuple[float, ...]:
    """A tenth of the tokens takes ten times as long."""
    times, now = [], FIRST_S
    for i in range(tokens):
        now += 0.02 if i % 10 == 9 else 0.0015
        times.append(now)
    return (FIRST_S, *times[1:])


def _slow_first(_request: int, tokens: int) -> tuple[float, ...]:
    return tuple(0.012 + STEP_S * i for i in range(tokens))


def _slow(_request: int, tokens: int) -> tuple[float, ...]:
    """Six milliseconds a token."""
    return tuple(FIRST_S + 0.006 * i for i in range(tokens))


def _slow_start(_request: int, tokens: int) -> tuple[float, ...]:
    """Each step as quick as ever, but the last takes a second."""
    return steady(0, tokens) if tokens == 1 else (*steady(0, tokens)[:-1], FIRST_S + 1.0)


def _wild(request: int, tokens: int) -> tuple[float, ...]:
    """Half of the runs at a twentieth of the others' speed by one long pause."""
    slower = 40.0 if request % 2 else 1.0
    return tuple(FIRST_S * 0.5 + 0.0005 * slower * i for i in range(tokens))


def _later_and_later(_request: int, tokens: int) -> tuple[float, ...]:
    """Without a cache: each step takes as long as all before it allow."""
    times, now = [], FIRST_S
    for i in range(tokens):
        times.append(now)
        now += 0.0001 * (i + 1)
    return tuple(times)


def _slow_prompt(_request: int, tokens: int) -> tuple[float, ...]:
    """A prompt that goes through token by token: two seconds for the long one."""
    return (2.0,) if tokens == 1 else steady(0, tokens)


def _stops(bench: ProofBench) -> Lab:
    """An engine that stops at the end token although it was asked not to."""
    lab = timed_lab(bench)
    found = lab.once(profiled)
    short = replace(found.runs[2], tokens=found.asked_tokens - 3)
    lab.plant(profiled, replace(found, runs=(*found.runs[:2], short, *found.runs[3:])))
    return lab


def _leaks(bench: ProofBench) -> Lab:
    """Each run leaves five per cent behind."""
    lab = timed_lab(bench)
    found = lab.once(profiled)
    grows = tuple(int(5e8 * 1.05**i) for i in range(len(found.runs)))
    lab.plant(profiled, replace(found, memory_bytes=grows))
    return lab


STEADY = shared("steady", timed_lab)

PROOFS = (
    Proof(
        "F-PROFILE-CI-001",
        "a last token that takes a second",
        lambda bench: timed_lab(
            bench, _slow_start, assertions={k: v for k, v in LIMITS.items() if "p99" not in k}
        ),
        STEADY,
    ),
    Proof(
        "F-PROFILE-CI-002",
        "a tenth of the tokens takes ten times as long",
        lambda bench: timed_lab(bench, _every_third_hangs),
        STEADY,
    ),
    Proof(
        "F-PROFILE-CI-003",
        "six milliseconds a token",
        lambda bench: timed_lab(
            bench, _slow, assertions={k: v for k, v in LIMITS.items() if k != "min_throughput"}
        ),
        STEADY,
    ),
    Proof(
        "F-PERF-002",
        "twelve milliseconds to the first token",
        lambda bench: timed_lab(bench, _slow_first),
        STEADY,
    ),
    Proof("F-PERF-003", "each run leaves five per cent of memory behind", _leaks, STEADY),
    Proof(
        "F-BENCH-003",
        "every other run is forty times slower",
        lambda bench: timed_lab(bench, _wild, assertions={}),
        STEADY,
    ),
    Proof("F-PROFILE-CI-004", "a run that stops three tokens early", _stops, STEADY),
    Proof(
        "F-PROFILE-CI-005",
        "steps that take longer with every token before them",
        lambda bench: timed_lab(bench, _later_and_later),
        STEADY,
    ),
    Proof(
        "F-PROFILE-CI-006",
        "a prompt of 64 tokens that takes two seconds",
        lambda bench: timed_lab(bench, _slow_prompt),
        STEADY,
    ),
)
