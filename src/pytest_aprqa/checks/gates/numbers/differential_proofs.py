"""The gates of `differential_tests` over derived files are seen to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.files.planting import Tensors, rewritten, untied
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, Tampered, shared
from pytest_aprqa.domain.model import Format

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_LAYER = "model.layers.1."
Q, UP = f"{_LAYER}self_attn.q_proj.weight", f"{_LAYER}mlp.up_proj.weight"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


def _of(change: Callable[[Tensors], object]) -> Callable[[ProofBench], Lab]:
    """A GGUF file of an edited copy; the ground truth is the embedded model."""

    def make(bench: ProofBench) -> Lab:
        file = bench.converted(Format.GGUF, None, rewritten(bench, change))
        return bench.target_lab(Format.GGUF, file=file, engine=bench.engine())

    return make


def _edit(name: str, change: Callable[[Any], Any]) -> Callable[[ProofBench], Lab]:
    return _of(lambda tensors: tensors.update({name: change(tensors[name])}))


def _with_less(bench: ProofBench) -> Lab:
    """The ground truth has a tensor that the file was made without."""
    directory = rewritten(bench, lambda t: t.update({"model.extra.weight": t[NORM].clone()}))
    file = bench.converted(Format.GGUF)
    model = bench.model_lab(directory)
    return bench.target_lab(Format.GGUF, file=file, engine=bench.engine(), model=model)


def _apr(bench: ProofBench, **replaced: Any) -> Lab:
    """An APR target with the embedded model's own engine, some ways of it replaced."""
    engine: Any = Tampered(bench.engine(), **replaced)
    return bench.target_lab(Format.APR, engine=engine)


def _other_answer(engine: Any, request: Any) -> Any:
    from dataclasses import replace

    ids = engine.tokenize("Name a color.", special=True)
    return engine.generate(replace(request, prompt_token_ids=ids))


def _flood(engine: Any, request: Any) -> Any:
    from dataclasses import replace

    return replace(engine.generate(request), token_ids=(1020,) * 10)


def _one_logit(engine: Any, ids: Any) -> Any:
    logits = engine.logits(ids).copy()
    logits[-2, 5] += 100
    return logits


def _with_head(bench: ProofBench, factor: float) -> Lab:
    """A model with a head of its own, and a file of a copy whose head is scaled."""

    def head(scale: float) -> Any:
        def change(tensors: Tensors) -> None:
            untied(tensors)
            tensors["lm_head.weight"] = tensors["lm_head.weight"].flip(0) * scale

        directory = rewritten(bench, change)
        bench.edit_json(directory / "config.json", lambda c: c.update(tie_word_embeddings=False))
        return directory

    file = bench.converted(Format.GGUF, None, head(factor))
    model = bench.model_lab(head(1.0))
    return bench.target_lab(Format.GGUF, file=file, engine=bench.engine(), model=model)


_GGUF = shared(
    "gguf for statistics", lambda bench: bench.target_lab(Format.GGUF, engine=bench.engine())
)
_APR = shared("apr for tokens", lambda bench: _apr(bench))
_NORM = ("F-ROSETTA-STATS-001",)

PROOFS = (
    Proof("F-ROSETTA-DIFF-001", "a query projection transposed", _edit(Q, lambda w: w.T), _GGUF),
    Proof("F-ROSETTA-DIFF-002", "a file without a tensor of the original", _with_less, _GGUF),
    Proof(
        "F-ROSETTA-DIFF-003",
        "an up projection scaled by 1.25",
        _edit(UP, lambda w: w * 1.25),
        _GGUF,
    ),
    Proof(
        "F-ROSETTA-INF-001",
        "the answer to another question",
        lambda bench: _apr(bench, generate=_other_answer),
        _APR,
    ),
    Proof(
        "F-ROSETTA-INF-002",
        "one logit a hundred too large",
        lambda bench: _apr(bench, logits=_one_logit),
        _APR,
    ),
    Proof(
        "F-ROSETTA-INF-003",
        "a flood of one token",
        lambda bench: _apr(bench, generate=_flood),
        _APR,
        also=("F-ROSETTA-INF-001",),
    ),
    Proof("F-ROSETTA-STATS-001", "a norm scaled by 1.02", _edit(NORM, lambda w: w * 1.02), _GGUF),
    Proof(
        "F-ROSETTA-STATS-002",
        "an embedding scaled by 1.25",
        _edit(EMBEDDING, lambda w: w * 1.25),
        _GGUF,
    ),
    Proof(
        "F-ROSETTA-STATS-003",
        "a query projection scaled by 1.05",
        _edit(Q, lambda w: w * 1.05),
        _GGUF,
    ),
    Proof(
        "F-ROSETTA-STATS-FFN-001",
        "an up projection scaled by 1.05",
        _edit(UP, lambda w: w * 1.05),
        _GGUF,
    ),
    Proof(
        "F-ROSETTA-STATS-HEAD-001",
        "a head scaled by 1.25",
        lambda bench: _with_head(bench, 1.25),
        shared("gguf with a head", lambda bench: _with_head(bench, 1.0)),
    ),
    Proof(
        "F-ROSETTA-STATS-005",
        "a norm less its mean",
        _edit(NORM, lambda w: w - w.mean()),
        _GGUF,
        also=_NORM,
    ),
    Proof(
        "F-ROSETTA-STATS-006",
        "a norm that is constant",
        _edit(NORM, lambda w: w * 0 + w.mean()),
        _GGUF,
        also=_NORM,
    ),
)
