"""Measure how fast an engine answers: warmed up, repeated, with what memory it holds."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.profile import Profile, RunTimes, profile_of
from pytest_aprqa.domain.trace import Trace, TraceLevel

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_aprqa.domain.completion import Completion
    from pytest_aprqa.engines.engine import Engine

BUDGET_S = 0.7
"""About what all runs of a small model take together: their length is chosen by its speed."""
LENGTHS = (8, 16, 32)
"""How many tokens a run may generate."""
PREFILL_TOKENS = 64
"""Length of the longer prompt: one step's fixed cost is shared by many tokens."""
PREFILL_RUNS = 3
MODULE_PASSES = 3
PROMPT_TOKENS = 64
"""Most tokens of the prompt that are used."""
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured, by the names that a baseline is known by."""

    model: str
    target: str


def measure(
    engine: Engine,
    subject: Subject,
    prompt: str,
    *,
    warmup: int,
    measured: int,
    tokens: int | None = None,
) -> Profile:
    """Run the prompt again and again, greedily and past any end token.

    `tokens` is the length of each answer; None chooses it by the engine's speed in one run more.

    Raises:
        InvalidRequest: the model cannot be asked this.
        EngineCrashed: the engine broke.
    """
    ids = engine.tokenize(prompt, special=True)[:PROMPT_TOKENS]
    length = tokens or _length(_times(_ask(engine, ids, LENGTHS[0])), warmup + measured)
    for _ in range(warmup):
        _ask(engine, ids, length)
    runs, memory = [], []
    for _ in range(measured):
        runs.append(_times(_ask(engine, ids, length)))
        memory.append(resident_bytes(engine))
    long = (ids * PREFILL_TOKENS)[: min(PREFILL_TOKENS, (engine.context_length or 1024) - 1)]
    prefill = [_times(_ask(engine, long, 1)).ttft_s for _ in range(PREFILL_RUNS)]
    return Profile(
        model=subject.model,
        target=subject.target,
        engine=f"{engine.name} {engine.version}",
        device=engine.describe().get("device_name", engine.device),
        host=host(),
        prompt_tokens=len(ids),
        asked_tokens=length,
        warmup=warmup,
        runs=tuple(runs),
        prefill_tokens=len(long),
        prefill_s=tuple(prefill),
        memory_bytes=tuple(m for m in memory if m is not None),
    )


def _length(seen: RunTimes, runs: int) -> int:
    """The longest of a few lengths for which there is time: few, so that runs stay comparable."""
    gaps = seen.gaps_s
    step = max(min(gaps) if gaps else seen.total_s, 1e-6)
    there_is_time = [n for n in LENGTHS if n * step * max(runs, 1) <= BUDGET_S]
    return max(there_is_time, default=LENGTHS[0])


def _ask(engine: Engine, ids: Sequence[int], tokens: int) -> Completion:
    request = GenerationRequest(
        prompt_token_ids=tuple(ids), max_tokens=tokens, ignore_eos=True, timeout_s=TIMEOUT_S
    )
    return engine.generate(request)


def _times(answer: Completion) -> RunTimes:
    first = answer.total_s if answer.ttft_s is None else answer.ttft_s
    return RunTimes(answer.completion_tokens, first, answer.total_s, answer.token_s)


def resident_bytes(engine: Any) -> int | None:
    """Resident memory of the process that holds the engine's model; None where it is not told."""
    import psutil

    pid = getattr(engine, "child_pid", None)
    return None if pid is None else int(psutil.Process(pid).memory_info().rss)


def host() -> str:
    """The machine, so that a profile of one is not held against another's."""
    cores = os.cpu_count() or 0
    return f"{platform.node()} {platform.system()} {platform.machine()} {cores} cores"


def time_modules(engine: Any, token_ids: Sequence[int]) -> Trace | None:
    """The quickest of some passes with every module timed; None where the engine offers no look.

    Raises:
        InvalidRequest: its model offers none.
        EngineCrashed: the engine broke.
    """
    trace = getattr(engine, "trace", None)
    if trace is None:
        return None
    passes: list[Trace] = [trace(token_ids, TraceLevel.BASIC).trace for _ in range(MODULE_PASSES)]
    return min(passes, key=lambda found: found.seconds)


def read_profile(path: Path) -> Profile:
    """A saved profile.

    Raises:
        AprqaError: there is none, or it cannot be read.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AprqaError(
            f"{path}: there is no such baseline; `aprqa profile --save-baseline` writes one"
        ) from error
    except (OSError, ValueError) as error:
        raise AprqaError(f"{path}: not a profile: {error}") from error
    if not isinstance(told, dict):
        raise AprqaError(f"{path}: not a profile: expected one JSON object")
    return profile_of(told)
