"""Files made of damaged copies, held against the model that they should have been made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.files.planting import Tensors, rewritten, untied
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared
from pytest_aprqa.conversion.families.row_orders import paired
from pytest_aprqa.domain.model import Format
from pytest_aprqa.domain.sections import DifferentialTests, Sections

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.checks.gates.lab import Lab

LAYER = "model.layers.1."
Q, K, UP = (f"{LAYER}{n}.weight" for n in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"))
EMBEDDING = "model.embed_tokens.weight"


def _derived(bench: ProofBench, made_of: Path, model: Path | None = None) -> Lab:
    """A GGUF target whose file was made of one directory, beside the ground truth of another.

    No gate here asks an engine: the embedded model's stands in.
    """
    file = bench.converted(Format.GGUF, None, made_of)
    return bench.target_lab(
        Format.GGUF, file=file, engine=bench.engine(), model=bench.model_lab(model)
    )


def _of(change: Callable[[Tensors], object]) -> Callable[[ProofBench], Lab]:
    return lambda bench: _derived(bench, rewritten(bench, change))


def _healthy(bench: ProofBench) -> Lab:
    return bench.target_lab(Format.GGUF, engine=bench.engine())


def _with_head(bench: ProofBench, change: Callable[[Tensors], object]) -> Path:
    def both(tensors: Tensors) -> None:
        untied(tensors)
        change(tensors)

    directory = rewritten(bench, both)
    bench.edit_json(directory / "config.json", lambda c: c.update(tie_word_embeddings=False))
    return directory


def _without_its_head(bench: ProofBench) -> Lab:
    from pytest_aprqa.checks.gates.proof import EMBEDDED

    def another(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["lm_head.weight"].flip(0)

    return _derived(bench, EMBEDDED, _with_head(bench, another))


def _with_another_bias(bench: ProofBench) -> Lab:
    """The ground truth has a bias that the file was made without."""
    from pytest_aprqa.checks.gates.proof import EMBEDDED

    def more(tensors: Tensors) -> None:
        tensors[f"{LAYER}mlp.up_proj.bias"] = tensors[f"{LAYER}mlp.up_proj.weight"][:, 0].clone()

    return _derived(bench, EMBEDDED, rewritten(bench, more))


def _with_more(name: str) -> Callable[[ProofBench], Lab]:
    """The ground truth has a tensor that the file was made without."""

    def make(bench: ProofBench) -> Lab:
        from pytest_aprqa.checks.gates.proof import EMBEDDED

        directory = rewritten(bench, lambda t: t.update({name: t["model.norm.weight"].clone()}))
        return _derived(bench, EMBEDDED, directory)

    return make


def _with_less(bench: ProofBench) -> Lab:
    """The file has a tensor that the ground truth has not."""
    from pytest_aprqa.checks.gates.proof import EMBEDDED

    return _derived(bench, EMBEDDED, rewritten(bench, lambda t: t.pop("model.norm.weight")))


def _reshaped(bench: ProofBench) -> Lab:
    from pytest_aprqa.checks.gates.proof import EMBEDDED

    return _derived(
        bench, EMBEDDED, rewritten(bench, lambda t: t.update({UP: t[UP][:-4].contiguous()}))
    )


def _upright_embedding(bench: ProofBench) -> Lab:
    from pytest_aprqa.checks.gates.proof import EMBEDDED

    turned = rewritten(bench, lambda t: t.update({EMBEDDING: t[EMBEDDING].T.contiguous()}))
    return _derived(bench, EMBEDDED, turned)


def _edit(name: str, change: Callable[[Tensors], object]) -> Callable[[ProofBench], Lab]:
    return _of(lambda tensors: tensors.update({name: change(tensors)}))


def _zeroed_part(tensors: Tensors) -> object:
    found = tensors[UP].clone()
    found[:64] = 0
    return found


def _damaged_part(tensors: Tensors) -> object:
    found = tensors[UP].clone()
    found[:64] = found[:64].flip(1) * 3
    return found


def _permuted_rows(tensors: Tensors) -> object:
    found = tensors[UP].clone()
    found[10], found[300] = tensors[UP][300], tensors[UP][10]
    return found


def _permuted_columns(tensors: Tensors) -> object:
    found = tensors[UP].clone()
    found[:, 10], found[:, 200] = tensors[UP][:, 200], tensors[UP][:, 10]
    return found


def _permuted_heads(tensors: Tensors) -> object:
    heads = tensors[Q].reshape(8, 32, 256)
    return heads[[1, 0, 2, 3, 4, 5, 6, 7]].reshape(256, 256)


def _noise(tensors: Tensors) -> object:
    import torch

    generator = torch.Generator().manual_seed(0)
    found = tensors[UP].float()
    noise = torch.randn(found.shape, generator=generator) * found.std()
    return (found + noise).to(tensors[UP].dtype)


def _not_a_number(tensors: Tensors) -> object:
    found = tensors[UP].clone()
    found[3, 5] = float("nan")
    return found


def _rope_rows(tensors: Tensors) -> object:
    return tensors[K][paired(2, 32)]


_DEFECTS = {
    "F-CONV-TRANSPOSED-001": ("a query projection transposed", _edit(Q, lambda t: t[Q].T)),
    "F-CONV-NAN-001": ("a NaN in an up projection", _edit(UP, _not_a_number)),
    "F-CONV-ZERO-001": ("an up projection of zeros", _edit(UP, lambda t: t[UP] * 0)),
    "F-CONV-NORM-001": (
        "a norm one too large",
        _edit("model.norm.weight", lambda t: t["model.norm.weight"] + 1),
    ),
    "F-CONV-OFFSET-001": ("an up projection moved by one", _edit(UP, lambda t: t[UP] + 1)),
    "F-CONV-SCALE-001": ("an up projection scaled by 1.25", _edit(UP, lambda t: t[UP] * 1.25)),
    "F-CONV-SIGN-001": ("an up projection negated", _edit(UP, lambda t: -t[UP])),
    "F-CONV-SWAP-001": (
        "gate and up projections exchanged in one layer",
        _of(lambda t: t.update({UP: t[UP.replace("up", "gate")], UP.replace("up", "gate"): t[UP]})),
    ),
    "F-CONV-ROPE-001": ("a key projection with its rows woven into pairs", _edit(K, _rope_rows)),
    "F-CONV-HEADS-001": ("two query heads exchanged", _edit(Q, _permuted_heads)),
    "F-CONV-SHIFT-001": (
        "an embedding whose rows are shifted by one",
        _edit(EMBEDDING, lambda t: t[EMBEDDING].roll(1, 0)),
    ),
    "F-CONV-ROWS-001": ("two rows of an up projection exchanged", _edit(UP, _permuted_rows)),
    "F-CONV-COLUMNS-001": (
        "two columns of an up projection exchanged",
        _edit(UP, _permuted_columns),
    ),
    "F-CONV-PARTZERO-001": ("64 rows of an up projection zeroed", _edit(UP, _zeroed_part)),
    "F-CONV-PART-001": ("64 rows of an up projection mixed up", _edit(UP, _damaged_part)),
    "F-CONV-WEIGHT-001": ("an up projection under noise of its own size", _edit(UP, _noise)),
}
_HEALTHY = shared("healthy gguf", _healthy)


def _against_itself(change: Callable[[Tensors], object] | None) -> Callable[[ProofBench], Lab]:
    """The embedded model, or an edited copy, beside the embedded model as its reference."""

    def make(bench: ProofBench) -> Lab:
        from pytest_aprqa.checks.gates.proof import EMBEDDED

        sections = Sections(differential_tests=DifferentialTests(reference=str(EMBEDDED)))
        directory = None if change is None else rewritten(bench, change)
        return bench.model_lab(directory, sections=sections)

    return make


_REFERENCED = shared("embedded model and reference", _against_itself(None))

PROOFS = (
    *(Proof(gate, defect, planted, _HEALTHY) for gate, (defect, planted) in _DEFECTS.items()),
    Proof("F-CONV-EMBED-001", "an embedding that was transposed on the way", _upright_embedding,
          _HEALTHY),
    Proof("F-CONV-SHAPE-001", "an up projection with four rows more than the original's",
          _reshaped, _HEALTHY),
    Proof("F-CONV-MISSING-001", "a file without a tensor of the original",
          _with_more("model.extra.weight"), _HEALTHY),
    Proof("F-CONV-BIAS-001", "a file without a bias of the original", _with_another_bias,
          _HEALTHY),
    Proof("F-CONV-TIE-001", "a file whose head is the embedding, where the original has another",
          _without_its_head, _HEALTHY),
    Proof("F-CONV-SURPLUS-001", "a file with a tensor that the original has not", _with_less,
          _HEALTHY),
    Proof("F-REF-LOST-001", "a copy without its last norm",
          _against_itself(lambda t: t.pop("model.norm.weight")), _REFERENCED),
    Proof("F-REF-MOVED-001", "a copy with a key projection's rows shifted",
          _against_itself(lambda t: t.update({K: t[K].roll(1, 0)})), _REFERENCED),
    Proof("F-REF-CHANGED-001", "a copy with an up projection scaled by 1.02",
          _against_itself(lambda t: t.update({UP: t[UP] * 1.02})), _REFERENCED),
    Proof("F-REF-DAMAGED-001", "a copy with noise in an up projection",
          _against_itself(lambda t: t.update({UP: _noise(t)})), _REFERENCED),
)  # fmt: skip
