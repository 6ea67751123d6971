"""The gates about both ends of a pass are seen to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.inside.layers_proofs import HEALTHY
from pytest_aprqa.checks.gates.proof import Proof, ProofBench

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab


def _untied(bench: ProofBench, **edits: Any) -> Lab:
    """An engine over a copy whose head is a tensor of its own, and edited; the file is healthy."""
    from safetensors.torch import load_file, save_file

    directory = bench.copy()
    path = directory / "model.safetensors"
    found = load_file(path)
    found["lm_head.weight"] = found["model.embed_tokens.weight"].clone()
    path.unlink()
    save_file(found, path, metadata={"format": "pt"})
    bench.edit_tensors(directory, {name.replace("__", "."): edit for name, edit in edits.items()})
    bench.edit_json(
        directory / "config.json", lambda config: config.update(tie_word_embeddings=False)
    )
    return bench.target_lab(engine=bench.engine(directory))


def _rolled(weight: Any) -> Any:
    import numpy as np

    return np.roll(weight, 1, axis=0)


PROOFS = (
    Proof(
        "F-TRACE-EMBED-001",
        "the engine's embedding is shifted by one row",
        lambda bench: _untied(bench, model__embed_tokens__weight=_rolled),
        HEALTHY,
    ),
    Proof(
        "F-TRACE-LOGITS-001",
        "the engine's head is shifted by one row",
        lambda bench: _untied(bench, lm_head__weight=_rolled),
        HEALTHY,
    ),
)
