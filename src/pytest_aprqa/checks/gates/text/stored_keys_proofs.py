"""Proofs of the gates about stored tokenizers: one key of a converted file is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared
from pytest_aprqa.checks.gates.text.tokens_proofs import healthy_target
from pytest_aprqa.domain.model import Format

_TOKENS = "tokenizer.ggml.tokens"
Change = Callable[[dict[str, Any]], object]


def rewritten(bench: ProofBench, change: Change, original: Path | None = None) -> Path:
    """A GGUF file with its keys changed; the change is given fields by key."""
    from pytest_aprqa.formats.gguf_file import GgufFile
    from pytest_aprqa.formats.gguf_writer import write_gguf
    from pytest_aprqa.formats.tensor import tensors_of

    file = GgufFile.open(original or bench.converted(Format.GGUF))
    fields = dict(file.fields)
    change(fields)
    path = bench.place("model.gguf")
    write_gguf(path, fields=fields, tensors=tensors_of(file))
    return path


def rewritten_lab(bench: ProofBench, change: Change) -> Lab:
    """A target whose file has changed keys; the engine is the unchanged file's."""
    engine = bench.engine(bench.converted(Format.GGUF), Format.GGUF)
    return bench.target_lab(Format.GGUF, file=rewritten(bench, change), engine=engine)


def item(key: str, place: int, value: object) -> Change:
    """One entry of an array."""

    def change(fields: dict[str, Any]) -> None:
        values = list(fields[key].value)
        values[place] = value
        fields[key] = replace(fields[key], value=tuple(values))

    return change


def swapped(key: str, one: int, two: int) -> Change:
    """Two entries of an array in each other's place."""

    def change(fields: dict[str, Any]) -> None:
        values = list(fields[key].value)
        values[one], values[two] = values[two], values[one]
        fields[key] = replace(fields[key], value=tuple(values))

    return change


def value(key: str, new: Callable[[Any], Any]) -> Change:
    """One key's value, from the old one."""

    def change(fields: dict[str, Any]) -> None:
        fields[key] = replace(fields[key], value=new(fields[key].value))

    return change


def _model_with_unk(bench: ProofBench) -> Path:
    """A copy whose unknown token and start token are named."""
    directory = bench.copy()
    names = {"unk_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    bench.edit_json(directory / "tokenizer_config.json", lambda content: content.update(names))
    return directory


def _with_unk(bench: ProofBench, change: Change | None = None) -> Lab:
    directory = _model_with_unk(bench)
    model = bench.model_lab(directory)
    file = bench.converted(Format.GGUF, directory=directory)
    if change is not None:
        file = rewritten(bench, change, file)
    engine = bench.engine(bench.converted(Format.GGUF), Format.GGUF)
    return bench.target_lab(Format.GGUF, file=file, engine=engine, model=model)


def _proof(gate: str, defect: str, change: Change) -> Proof:
    planted = partial(rewritten_lab, change=change)
    return Proof(gate=gate, defect=defect, planted=planted, healthy=healthy_target(Format.GGUF))


def _one_more(fields: dict[str, Any]) -> None:
    fields[_TOKENS] = replace(fields[_TOKENS], value=(*fields[_TOKENS].value, "[PAD1024]"))


def _other_id(name: str, number: int) -> Change:
    return value(f"tokenizer.ggml.{name}_token_id", lambda _: number)


PROOFS = (
    _proof(
        "F-TOK-VOCAB-001", "two ordinary tokens have changed places", swapped(_TOKENS, 400, 401)
    ),
    _proof("F-TOK-SIZE-001", "there is one token more than rows of the embedding", _one_more),
    _proof(
        "F-TOK-ADDED-001",
        "the text of an added token is another",
        item(_TOKENS, 1022, "<|im_begin|>"),
    ),
    _proof(
        "F-TOK-TYPE-001",
        "a control token is marked as a normal one",
        item("tokenizer.ggml.token_type", 1022, 1),
    ),
    _proof(
        "F-TOK-MERGE-001", "two merges have changed places", swapped("tokenizer.ggml.merges", 3, 4)
    ),
    _proof(
        "F-TOK-KIND-001",
        "the kind of tokenizer is SentencePiece",
        value("tokenizer.ggml.model", lambda _: "llama"),
    ),
    _proof(
        "F-TOK-PRE-001",
        "the pre-tokenizer is Llama 3's",
        value("tokenizer.ggml.pre", lambda _: "llama-bpe"),
    ),
    _proof("F-TOK-BOS-001", "the start token is the end of a turn", _other_id("bos", 1023)),
    _proof("F-TOK-EOS-001", "the end token is the start of a turn", _other_id("eos", 1022)),
    _proof("F-TOK-PAD-001", "the padding token is an ordinary one", _other_id("padding", 300)),
    Proof(
        gate="F-TOK-UNK-001",
        defect="the token for unknown text is an ordinary one",
        planted=partial(_with_unk, change=_other_id("unknown", 300)),
        healthy=shared("text-unk", _with_unk),
    ),
    _proof(
        "F-TOK-ADDBOS-001",
        "the file asks for a start token before each text",
        value("tokenizer.ggml.add_bos_token", lambda _: True),
    ),
    _proof(
        "F-TOK-ADDEOS-001",
        "the file asks for an end token after each text",
        value("tokenizer.ggml.add_eos_token", lambda _: True),
    ),
    _proof(
        "F-TEMPLATE-STORED-001",
        "one letter of the chat template is another",
        value("tokenizer.chat_template", lambda text: text.replace("assistant", "assistent")),
    ),
    _proof(
        "F-TOK-FILE-001",
        "one character of the tokenizer_config.json inside is another",
        value("aprqa.file.tokenizer_config.json", lambda text: text.replace("replace", "replacf")),
    ),
)
