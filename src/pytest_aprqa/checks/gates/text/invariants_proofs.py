"""Proofs of the gates about the five invariants: tensors and tokenizers of files are changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench
from pytest_aprqa.checks.gates.text.stored_keys_proofs import rewritten, value
from pytest_aprqa.checks.gates.text.tokens_proofs import healthy_target
from pytest_aprqa.domain.model import Format, Quantization

if TYPE_CHECKING:
    from pytest_aprqa.formats.tensor import Tensor

Change = Callable[["list[Tensor]"], "list[Tensor]"]
_MORE, _DOWN = "model.layers.1.mlp.up_proj.scale", "blk.1.ffn_down.weight"


def gguf_lab(bench: ProofBench, change: Change, kind: Quantization | None = None) -> Lab:
    """A GGUF target with other tensors; the engine is the unchanged file's."""
    from pytest_aprqa.formats.gguf_file import GgufFile
    from pytest_aprqa.formats.gguf_writer import write_gguf
    from pytest_aprqa.formats.tensor import tensors_of

    file = GgufFile.open(bench.converted(Format.GGUF, kind))
    path = bench.place("model.gguf")
    write_gguf(path, fields=file.fields, tensors=change(list(tensors_of(file))))
    engine = bench.engine(bench.converted(Format.GGUF), Format.GGUF)
    return bench.target_lab(Format.GGUF, kind, file=path, engine=engine)


def _more_in_the_source(bench: ProofBench) -> Lab:
    import torch
    from safetensors.torch import load_file, save_file

    directory = bench.copy()
    path = directory / "model.safetensors"
    tensors = load_file(path) | {_MORE: torch.ones(256, dtype=torch.bfloat16)}
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})
    file = bench.converted(Format.APR)
    model = bench.model_lab(directory)
    return bench.target_lab(
        Format.APR, file=file, engine=bench.engine(file, Format.APR), model=model
    )


def _edited(tensors: list[Tensor], name: str, change: Callable[[Any], Any]) -> list[Tensor]:
    return [
        t.derived(t.shape, change, encoding=t.encoding) if t.name == name else t for t in tensors
    ]


def _one_value(values: Any) -> Any:
    values.reshape(-1)[5] += 0.25
    return values


def _as_float(tensors: list[Tensor]) -> list[Tensor]:
    return [t.as_encoding("F32") if t.name == _DOWN else t for t in tensors]


def _no_nfc(text: str) -> str:
    content = json.loads(text)
    content["normalizer"] = None
    return json.dumps(content, ensure_ascii=False)


def _other_tokenizer(bench: ProofBench) -> Lab:
    path = rewritten(bench, value("tokenizer.huggingface.json", _no_nfc))
    engine = bench.engine(bench.converted(Format.GGUF), Format.GGUF)
    return bench.target_lab(Format.GGUF, file=path, engine=engine)


_I1 = "F-CONTRACT-I1-001"

PROOFS = (
    Proof(
        gate=_I1,
        defect="one value of a matrix is another",
        planted=partial(gguf_lab, change=partial(_edited, name=_DOWN, change=_one_value)),
        healthy=healthy_target(Format.GGUF),
    ),
    Proof(
        gate="F-CONTRACT-I2-001",
        defect="a tensor of the ground truth did not come into the file",
        planted=_more_in_the_source,
        healthy=healthy_target(Format.APR),
        also=(_I1,),
    ),
    Proof(
        gate="F-CONTRACT-I3-001",
        defect="one matrix of a quantized file is silently stored as F32",
        planted=partial(gguf_lab, change=_as_float, kind=Quantization.Q8_0),
        healthy=healthy_target(Format.GGUF),
    ),
    Proof(
        gate="F-CONTRACT-I4-001",
        defect="a matrix is scaled by 1.2",
        planted=partial(gguf_lab, change=partial(_edited, name=_DOWN, change=lambda v: v * 1.2)),
        healthy=healthy_target(Format.APR),
        also=(_I1,),
    ),
    Proof(
        gate="F-CONTRACT-I5-001",
        defect="the tokenizer.json inside the file has no normalizer",
        planted=_other_tokenizer,
        healthy=healthy_target(Format.GGUF),
    ),
)
