"""The gates over logits are seen to fail: damaged weights, and engines whose logits are changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.proof import PROMPTS, Proof, ProofBench, Tampered, shared

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_DOWN = "model__layers__1__mlp__down_proj__weight"


def _healthy(bench: ProofBench) -> Lab:
    return bench.target_lab()


HEALTHY = shared("embedded model for logits", _healthy)


def _damaged(**edits: Any) -> Callable[[ProofBench], Lab]:
    """An engine over an edited copy; the ground truth is the embedded model."""
    return lambda bench: bench.target_lab(engine=bench.engine(bench.copy(**edits)))


def _changed(change: Callable[[Any, Any, Any], Any]) -> Callable[[ProofBench], Lab]:
    """An engine whose logits `change` gets, with the engine and the token ids."""

    def logits(engine: Any, ids: Any) -> Any:
        return change(engine, ids, engine.logits(ids).copy())

    return lambda bench: bench.target_lab(engine=Tampered(bench.engine(), logits=logits))


def _swap_top(logits: Any, place: int) -> None:
    """Exchange the most and the least probable token."""
    best, least = int(logits[place].argmax()), int(logits[place].argmin())
    logits[place, [best, least]] = logits[place, [least, best]]


def _prompt_ends(engine: Any, ids: Any) -> list[int]:
    found = [engine.tokenize(prompt, special=True) for prompt in PROMPTS]
    return [len(f) - 1 for f in found if tuple(ids[: len(f)]) == tuple(f)]


def _at_one_place(engine: Any, ids: Any, logits: Any) -> Any:
    for place in _prompt_ends(engine, ids)[:1]:
        _swap_top(logits, place + 2)
    return logits


def _after_prompts(engine: Any, ids: Any, logits: Any) -> Any:
    for place in _prompt_ends(engine, ids):
        _swap_top(logits, place)
    return logits


def _in_every_fourth(engine: Any, ids: Any, logits: Any) -> Any:
    kept = _prompt_ends(engine, ids)
    for place in range(3, len(ids), 4):
        if place not in kept:
            _swap_top(logits, place)
    return logits


def _late(engine: Any, ids: Any, logits: Any) -> Any:
    """The last eighth of a text is decided by something else."""
    for place in range(len(ids) - max(2, len(ids) // 8), len(ids)):
        _swap_top(logits, place)
    return logits


def _mixed(share: float) -> Callable[[Any, Any, Any], Any]:
    """Some of the probability is spread over all tokens alike."""

    def change(engine: Any, ids: Any, logits: Any) -> Any:
        import numpy as np

        wide = logits.astype(np.float64)
        wide = np.exp(wide - wide.max(axis=1, keepdims=True))
        wide /= wide.sum(axis=1, keepdims=True)
        return np.log((1 - share) * wide + share / wide.shape[1]).astype(np.float32)

    return change


def noisy(engine: Any, ids: Any, logits: Any) -> Any:
    """Logits with noise of a fifth of their spread."""
    import numpy as np

    noise = np.random.default_rng(0).normal(size=logits.shape) * logits.std() * 0.2
    return (logits + noise).astype(np.float32)


def _other_answers(engine: Any, request: Any) -> Any:
    """Another question is answered."""
    from dataclasses import replace

    ids = engine.tokenize("Name a color.", special=True)
    return engine.generate(replace(request, prompt_token_ids=ids))


def _answering_another(bench: ProofBench) -> Lab:
    return bench.target_lab(engine=Tampered(bench.engine(), generate=_other_answers))


def _not_a_number(engine: Any, ids: Any, logits: Any) -> Any:
    logits[-1, 7] = float("nan")
    return logits


PROOFS = (
    Proof("F-LOGIT-NAN-001", "one logit is NaN", _changed(_not_a_number), HEALTHY),
    Proof(
        "F-LOGIT-KLD-001",
        "layer 1's down projection is zero",
        _damaged(**{_DOWN: lambda w: w * 0}),
        HEALTHY,
        also=("F-LOGIT-TAIL-001",),
    ),
    Proof(
        "F-LOGIT-TAIL-001", "one position is decided otherwise", _changed(_at_one_place), HEALTHY
    ),
    Proof(
        "F-LOGIT-DRIFT-001",
        "the end of every text is decided otherwise",
        _changed(_late),
        HEALTHY,
        also=("F-LOGIT-KLD-001", "F-LOGIT-TAIL-001"),
    ),
    Proof(
        "F-LOGIT-TOP1-001",
        "every fourth position has another most probable token",
        _changed(_in_every_fourth),
        HEALTHY,
    ),
    Proof(
        "F-CONV-015",
        "another token is the most probable after each prompt",
        _changed(_after_prompts),
        HEALTHY,
    ),
    Proof(
        "F-LOGIT-DP-001",
        "six per cent of the probability is spread over all tokens",
        _changed(_mixed(0.06)),
        HEALTHY,
        also=("F-PAR-003",),
    ),
    Proof(
        "F-PAR-003",
        "one per cent of the probability is spread over all tokens",
        _changed(_mixed(0.01)),
        HEALTHY,
    ),
    Proof("F-LOGIT-NMSE-001", "noise of a fifth of the logits' spread", _changed(noisy), HEALTHY),
    Proof(
        "F-LOGIT-SCALE-001",
        "logits divided by a temperature of 0.96",
        _changed(lambda engine, ids, logits: logits / 0.96),
        HEALTHY,
    ),
    Proof("F-HFP-002", "answers to another question", _answering_another, HEALTHY),
)
