"""The gates about how passes hang together are seen to fail."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.inside.layers_proofs import HEALTHY
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, Tampered

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab


def _broken(bench: ProofBench, **ways: Any) -> Lab:
    return bench.target_lab(engine=Tampered(bench.engine(), **ways))


def _sees_the_end(engine: Any, ids: Any) -> Any:
    """Half of every token's logits are those of the last: a mask that hides nothing."""
    logits = engine.logits(ids)
    return 0.5 * logits + 0.5 * logits[-1]


def _sees_itself(engine: Any, ids: Any) -> Any:
    """A model without attention: every token's logits are its own alone."""
    import numpy as np

    return np.concatenate([engine.logits([i]) for i in ids])


def _sees_no_order(engine: Any, ids: Any) -> Any:
    """A model without positions: a token sees those before it as a set."""
    import numpy as np

    rows = [engine.logits([*sorted(ids[:place]), ids[place]])[-1] for place in range(len(ids))]
    return np.stack(rows)


def _forgets(engine: Any, request: Any) -> Any:
    """A cache that holds the last two tokens only."""
    ids = list(request.prompt_token_ids)
    made: list[int] = []
    for _ in range(4):
        made.append(int(engine.logits([*ids, *made][-2:])[-1].argmax()))
    return replace(engine.generate(request), token_ids=tuple(made))


def _babbles(engine: Any, request: Any) -> Any:
    return replace(engine.generate(request), text="\ufffd\ufffd ï¿½ xq\ufffdzt \ufffd\ufffd\ufffd")


PROOFS = (
    Proof(
        "F-TRACE-CAUSAL-001",
        "an engine whose mask lets every token see the last",
        lambda bench: _broken(bench, logits=_sees_the_end),
        HEALTHY,
        also=("F-CHECK-007",),
    ),
    Proof(
        "F-TRACE-CONTEXT-001",
        "an engine whose tokens see only themselves",
        lambda bench: _broken(bench, logits=_sees_itself),
        HEALTHY,
        also=("F-CHECK-006", "F-CHECK-007"),
    ),
    Proof(
        "F-CHECK-006",
        "an engine without positions",
        lambda bench: _broken(bench, logits=_sees_no_order),
        HEALTHY,
        also=("F-CHECK-007",),
    ),
    Proof(
        "F-CHECK-007",
        "a cache that holds two tokens",
        lambda bench: _broken(bench, generate=_forgets),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-PAYLOAD-002",
        "an answer of broken characters",
        lambda bench: _broken(bench, generate=_babbles),
        HEALTHY,
    ),
)
