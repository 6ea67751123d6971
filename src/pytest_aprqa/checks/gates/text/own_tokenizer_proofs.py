"""Proofs of the gates about the ground truth's tokenizer: its files are changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared

Change = Callable[[dict[str, Any]], object]


def healthy_model(bench: ProofBench) -> Lab:
    """The embedded model."""
    return bench.model_lab()


def changed_model(bench: ProofBench, change: Change, file: str = "tokenizer.json") -> Lab:
    """A copy of the embedded model with one JSON file changed."""
    directory = bench.copy()
    bench.edit_json(directory / file, change)
    return bench.model_lab(directory)


def _proof(
    gate: str, defect: str, change: Change, file: str = "tokenizer.json", also: tuple[str, ...] = ()
) -> Proof:
    planted = partial(changed_model, change=change, file=file)
    healthy = shared("text-model", healthy_model)
    return Proof(gate=gate, defect=defect, planted=planted, healthy=healthy, also=also)


def _no_nl(content: dict[str, Any]) -> None:
    replaced = {"type": "Replace", "pattern": {"String": "\u010a"}, "content": "\u0120"}
    content["decoder"] = {"type": "Sequence", "decoders": [replaced, content["decoder"]]}


def _swallowed(content: dict[str, Any]) -> None:
    token = next(t for t, i in content["model"]["vocab"].items() if i == 1000)
    lost = {"type": "Replace", "pattern": {"String": token}, "content": ""}
    content["decoder"] = {"type": "Sequence", "decoders": [lost, content["decoder"]]}


def _twice(content: dict[str, Any]) -> None:
    content["model"]["vocab"][_last(content)] = 500


def _hole(content: dict[str, Any]) -> None:
    content["model"]["vocab"][_last(content)] = 1030


def _last(content: dict[str, Any]) -> str:
    vocab: dict[str, int] = content["model"]["vocab"]
    return max(vocab, key=lambda token: vocab[token])


def _one_more(content: dict[str, Any]) -> None:
    last = content["added_tokens"][-1]
    content["added_tokens"].append({**last, "id": 1024, "content": "<|one_more|>"})


def _no_merge_token(content: dict[str, Any]) -> None:
    content["model"]["merges"].append(["a", "\u0120"])
    content["model"]["vocab"].pop("a\u0120", None)


def _shuffled(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    merged = [token for token, number in vocab.items() if number >= 256]
    numbers = sorted(vocab[token] for token in merged)
    vocab.update(zip(merged, [n for k in (0, 1, 2) for n in numbers[k::3]][::-1], strict=True))


def _no_byte(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    vocab["\u0120lost\u0120byte"] = vocab.pop("\u00f4")


PROOFS = (
    _proof("F-CHECK-001", "line ends are decoded as blanks", _no_nl),
    _proof("F-TOK-DECODE-001", "the decoder swallows one token", _swallowed),
    _proof(
        "F-TOK-UNIQUE-001", "an id is given to a second token", _twice, also=("F-TOK-DENSE-001",)
    ),
    _proof(
        "F-TOK-DENSE-001",
        "a token lies beyond a hole in the ids, in rows that an embedding has not",
        _hole,
        also=("F-TOK-ROWS-001",),
    ),
    _proof(
        "F-TOK-ROWS-001",
        "there is one token more than rows",
        _one_more,
    ),
    _proof(
        "F-TOK-SPECIAL-001",
        "added tokens are listed out of order, so that libraries number them otherwise",
        lambda content: content["added_tokens"].reverse(),
    ),
    _proof(
        "F-TOK-KNOWN-001",
        "the padding token is no token",
        lambda content: content.update(pad_token="<|pad|>"),
        "tokenizer_config.json",
    ),
    _proof(
        "F-TOK-AGREE-001",
        "tokenizer_config.json lists an added token with another id",
        lambda content: content["added_tokens_decoder"].update(
            {"7": content["added_tokens_decoder"].pop("1022")}
        ),
        "tokenizer_config.json",
    ),
    _proof(
        "F-TOK-END-001",
        "the tokenizer's end token is the start of a turn",
        lambda content: content.update(eos_token="<|im_start|>"),
        "tokenizer_config.json",
    ),
    _proof(
        "F-TOK-STOP-001",
        "generation is to end at an id that no token has",
        lambda content: content.update(eos_token_id=[1023, 4000]),
        "generation_config.json",
    ),
    _proof("F-TOK-MERGES-001", "a merge makes text that is no token", _no_merge_token),
    _proof("F-TOK-ORDER-001", "the ids of merged tokens are shuffled", _shuffled),
    _proof("F-TOK-ALPHABET-001", "one byte has no token", _no_byte),
)
