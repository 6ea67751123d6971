"""Files made of copies with other settings, held against the model as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.conversion.settings import _CLAIMS
from pytest_aprqa.checks.gates.proof import EMBEDDED, Proof, ProofBench, shared
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.domain.sections import DifferentialTests, Sections

if TYPE_CHECKING:
    from pytest_aprqa.checks.gates.lab import Lab

_CHANGES: dict[str, dict[str, Any]] = {
    "architecture": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
    "vocabulary": {"vocab_size": 1000},
    "layers": {"num_hidden_layers": 2},
    "hidden": {"hidden_size": 128},
    "feed-forward": {"intermediate_size": 500},
    "heads": {"num_key_value_heads": 4},
    "rope": {"rope_theta": 500000.0},
    "eps": {"rms_norm_eps": 1e-5},
    "activation": {"hidden_act": "gelu"},
    "context": {"max_position_embeddings": 256},
    "window": {"use_sliding_window": True},
    "tie": {"tie_word_embeddings": False},
    "ids": {"eos_token_id": 1021},
    "scaling": {"logits_scaling": 2.0},
}


def _truth(bench: ProofBench, change: dict[str, Any]) -> Lab:
    """A GGUF target of the embedded model, beside a ground truth whose config.json says otherwise.

    The defect lies in their difference, whichever of the two it was planted in.
    """
    directory = bench.copy()
    bench.edit_json(directory / "config.json", lambda config: config.update(change))
    return bench.target_lab(
        Format.GGUF,
        file=bench.converted(Format.GGUF, None),
        engine=bench.engine(),
        model=bench.model_lab(directory),
    )


def _changed(group: str) -> Callable[[ProofBench], Lab]:
    return lambda bench: _truth(bench, _CHANGES[group])


def _scaled(bench: ProofBench) -> Lab:
    """Both say the same of a multiplier."""
    directory = bench.copy()
    bench.edit_json(directory / "config.json", lambda config: config.update(logits_scaling=1.0))
    model = bench.model_lab(directory)
    lab = bench.target_lab(
        Format.GGUF,
        file=bench.converted(Format.GGUF, None),
        engine=bench.engine(),
        model=model,
    )
    lab.__dict__["portable"] = model.portable
    return lab


def _other_file(name: str, content: str) -> Callable[[ProofBench], Lab]:
    """A GGUF target of the embedded model, beside a ground truth with another file."""

    def make(bench: ProofBench) -> Lab:
        directory = bench.copy()
        (directory / name).write_text(content, encoding="utf-8")
        return bench.target_lab(
            Format.GGUF,
            file=bench.converted(Format.GGUF, None),
            engine=bench.engine(),
            model=bench.model_lab(directory),
        )

    return make


def _mislabelled(bench: ProofBench) -> Lab:
    return bench.target_lab(
        Format.GGUF,
        Quantization.Q8_0,
        file=bench.converted(Format.GGUF, Quantization.Q4_0),
        engine=bench.engine(),
    )


def _referenced(
    change: Callable[[ProofBench, Any], None] | None,
) -> Callable[[ProofBench], Lab]:
    def make(bench: ProofBench) -> Lab:
        sections = Sections(differential_tests=DifferentialTests(reference=str(EMBEDDED)))
        directory = bench.copy()
        if change is not None:
            change(bench, directory)
        return bench.model_lab(directory, sections=sections)

    return make


def _other_base(bench: ProofBench, directory: Any) -> None:
    bench.edit_json(directory / "config.json", lambda c: c.update(rope_theta=500000.0))


def _other_template(bench: ProofBench, directory: Any) -> None:
    path = directory / "tokenizer_config.json"
    bench.edit_json(path, lambda c: c.update(chat_template=c["chat_template"] + " "))


_HEALTHY = shared(
    "healthy gguf", lambda bench: bench.target_lab(Format.GGUF, engine=bench.engine())
)
_LABELLED = shared(
    "gguf q8_0",
    lambda bench: bench.target_lab(Format.GGUF, Quantization.Q8_0, engine=bench.engine()),
)
_GENERATION = json.dumps({"eos_token_id": [1023, 1021]})

PROOFS = (
    *(
        Proof(
            gate,
            f"a file whose {group} settings are not the ground truth's",
            _changed(group),
            _scaled if group == "scaling" else _HEALTHY,
        )
        for group, (gate, _) in _CLAIMS.items()
    ),
    Proof("F-CONV-TOK-001", "a file with another tokenizer",
          _other_file("tokenizer.json", (EMBEDDED / "tokenizer.json").read_text("utf-8") + " "),
          _HEALTHY),
    Proof("F-CONV-TOKCONFIG-001", "a file with other tokenizer settings",
          _other_file("tokenizer_config.json", "{}"), _HEALTHY),
    Proof("F-CONV-GENCONFIG-001", "a file with other generation settings",
          _other_file("generation_config.json", _GENERATION), _HEALTHY),
    Proof("F-CONV-LABEL-001", "a q4_0 file that is called q8_0", _mislabelled, _LABELLED),
    Proof("F-REF-CONFIG-001", "a copy with another rope base", _referenced(_other_base),
          _referenced(None)),
    Proof("F-REF-FILES-001", "a copy whose chat template ends in a blank more",
          _referenced(_other_template), _referenced(None)),
)  # fmt: skip
