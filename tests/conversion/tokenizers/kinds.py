"""Small tokenizers of each kind that the fifteen families have, trained here.

Pre-tokenizers, normalizers, decoders, added tokens and post-processors are as in the families'
published tokenizer.json files, written from their descriptions; the vocabularies are our own.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, trainers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.conversion.tokenizers.pretokenizers import named, tokenizer_json_of

_PROSE = (
    "It was the best of times, it was the worst of times; I don't know what they'll say, but I'm "
    "sure you've heard: the committee's 12 members and 1984's other 365 days weren't there.\n"
    "Der Fluss fließt durch das Tal, où l'été était déjà fini; mañana por la mañana.\n"
    "Вчера вечером мы читали книгу. 昨天晚上我们在看书。 昨日の夜、本を読みました。\n\n"
    "def add(a, b):\n    return a + b  # 3 + 4 == 7\n\nfor i in range(10):\n\tprint(i, end=' ')\n"
)
CORPUS = (*ADVERSARIAL_TEXTS, *([_PROSE] * 3))
_NO_CUTS = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
_TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"


@dataclass(frozen=True)
class Kind:
    config: Mapping[str, Any]
    files: Mapping[str, bytes]
    name: str = "test"
    """What `general.name` has to be like: llama.cpp goes by it in one case."""

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(self.files["tokenizer.json"].decode())


def _added(number: int, text: str, special: bool, **more: Any) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": text, **flags, **more, "special": special}


def _bos_first(text: str, number: int) -> dict[str, Any]:
    first = {"SpecialToken": {"id": text, "type_id": 0}}
    a, b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    token = {"id": text, "ids": [number], "tokens": [text]}
    return {
        "type": "TemplateProcessing",
        "single": [first, a],
        "pair": [first, a, b],
        "special_tokens": {text: token},
    }


def _files(tokenizer: Mapping[str, Any], settings: Mapping[str, Any], eos: int) -> dict[str, bytes]:
    return {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False, indent=1).encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
        "generation_config.json": json.dumps({"eos_token_id": eos}).encode(),
        "chat_template.jinja": _TEMPLATE.encode(),
    }


def byte_level(
    model_type: str,
    pre_tokenizer: Mapping[str, Any],
    *,
    specials: Sequence[str],
    plain: Sequence[str] = (),
    bos: str | None = None,
    nfc: bool = False,
    ignore_merges: bool = False,
    template: bool = False,
    free_merges: bool = False,
) -> Kind:
    """A tokenizer over bytes; the last special token is EOS, `plain` are added and not special.

    With `free_merges` it is trained without cutting texts, so that its merges reach across every
    place at which it then cuts; special tokens are kept out of the training.
    """
    skeleton = json.loads(Tokenizer(BPE()).to_str())
    skeleton["pre_tokenizer"] = _NO_CUTS if free_merges else pre_tokenizer
    trained = Tokenizer.from_str(json.dumps(skeleton))
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    corpus = [t for t in CORPUS if not free_merges or not ("<" in t or "[INST" in t)]
    trained.train_from_iterator(corpus, trainer)
    tokenizer = json.loads(trained.to_str())
    count = len(tokenizer["model"]["vocab"])
    texts = [*specials, *plain]
    tokenizer |= {
        "added_tokens": [
            _added(count + i, text, i < len(specials)) for i, text in enumerate(texts)
        ],
        "normalizer": {"type": "NFC"} if nfc else None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _bos_first(bos, count + texts.index(bos)) if template and bos else None,
        "decoder": _BYTE_LEVEL | {"use_regex": True},
    }
    tokenizer["model"]["ignore_merges"] = ignore_merges
    settings: dict[str, Any] = {"bos_token": bos, "eos_token": specials[-1], "unk_token": None}
    size = (count + len(texts) + 63) // 64 * 64
    config = {"model_type": model_type, "vocab_size": size}
    return Kind(config, _files(tokenizer, settings, count + len(specials) - 1))


@functools.cache
def _sentencepiece(user_defined: tuple[str, ...], control: tuple[str, ...]) -> bytes:
    """A SentencePiece model as Llama's and Gemma's were trained: BPE with byte fallback."""
    import sentencepiece

    model = io.BytesIO()
    lines = [line for text in CORPUS for line in text.split("\n") if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=1100,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        character_coverage=0.98,
        user_defined_symbols=list(user_defined),
        control_symbols=list(control),
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def sentencepiece_kind(
    model_type: str,
    normalizer: Mapping[str, Any] | None,
    pre_tokenizer: Mapping[str, Any] | None,
    *,
    user_defined: tuple[str, ...] = (),
    user_defined_are_added: bool = True,
    control: tuple[str, ...] = (),
    extra: Sequence[Mapping[str, Any]] = (),
    stripping: Sequence[str] = (),
    with_model: bool = True,
    name: str = "test",
) -> Kind:
    """A tokenizer with byte fallback, its merges derived as transformers derives them."""
    import sentencepiece

    model = _sentencepiece(user_defined, control)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    count = pieces.get_piece_size()
    vocabulary = {pieces.id_to_piece(i): i for i in range(count)}
    special = [i for i in range(count) if pieces.is_control(i) or pieces.is_unknown(i)]
    ranked = []
    for text, number in vocabulary.items():
        splits = [(text[:i], text[i:]) for i in range(1, len(text))]
        known = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
        known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        ranked += [(-pieces.get_score(number), pair) for pair in known]
    ranked.sort(key=lambda entry: entry[0])
    added = [
        _added(i, piece, i in special, rstrip=piece in stripping)
        for piece, i in vocabulary.items()
        if i in special or (piece in user_defined and user_defined_are_added)
    ]
    added += [_added(count + i, **token) for i, token in enumerate(extra)]
    decoders = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}]
    tokenizer = json.loads(Tokenizer(BPE()).to_str()) | {
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _bos_first("<s>", vocabulary["<s>"]),
        "decoder": {
            "type": "Sequence",
            "decoders": [*decoders, {"type": "ByteFallback"}, {"type": "Fuse"}],
        },
    }
    tokenizer["model"] |= {
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
        "vocab": vocabulary,
        "merges": [list(pair) for _, pair in ranked],
    }
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    files = _files(tokenizer, settings, vocabulary["</s>"])
    if with_model:
        files["tokenizer.model"] = model
    size = (count + len(extra) + 31) // 32 * 32
    return Kind({"model_type": model_type, "vocab_size": size}, files, name)


_PREPEND: dict[str, Any] = {"type": "Prepend", "prepend": "▁"}
REPLACE: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
LEGACY: dict[str, Any] = {"type": "Sequence", "normalizers": [_PREPEND, REPLACE]}
METASPACE: dict[str, Any] = {
    "type": "Metaspace",
    "replacement": "▁",
    "prepend_scheme": "first",
    "split": False,
}
_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_FIM = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_PHI3 = ("<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>")
_RUNS = tuple(sign * count for sign in "\n▁" for count in range(2, 32))
_GEMMA_TOKENS = ("\n", *_RUNS, "<table>", "<td>")


def _known(name: str) -> dict[str, Any]:
    return tokenizer_json_of(named(name))


def _kept(name: str) -> dict[str, Any]:
    """The same with matches kept and the rest removed, as converters from tiktoken write it."""
    pre_tokenizer = _known(name)
    pre_tokenizer["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    return pre_tokenizer


def _phi3_tokens() -> list[dict[str, Any]]:
    return [{"text": text, "special": True, "rstrip": text != "<|endoftext|>"} for text in _PHI3]


def _deepseek_tokens() -> tuple[str, ...]:
    return tuple(f"<\uff5c{word}\u2581of\u2581sentence\uff5c>" for word in ("begin", "end"))


def _gemma(**more: Any) -> Kind:
    return sentencepiece_kind(
        "gemma2",
        REPLACE,
        {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        },
        user_defined=_GEMMA_TOKENS,
        control=("<pad>", "<start_of_turn>", "<end_of_turn>"),
        **more,
    )


KINDS: dict[str, Callable[[], Kind]] = {
    "llama-2": lambda: sentencepiece_kind("llama", LEGACY, None),
    "llama-2 without tokenizer.model": lambda: sentencepiece_kind(
        "llama", LEGACY, None, with_model=False
    ),
    "llama-3": lambda: byte_level(
        "llama",
        _known("llama-bpe"),
        specials=_LLAMA3,
        bos="<|begin_of_text|>",
        ignore_merges=True,
        template=True,
    ),
    "mistral": lambda: sentencepiece_kind(
        "mistral", None, METASPACE, control=("[INST]", "[/INST]")
    ),
    "mistral-nemo": lambda: byte_level(
        "mistral",
        _known("tekken"),
        specials=("<unk>", "<s>", "[INST]", "[/INST]", "</s>"),
        bos="<s>",
        ignore_merges=True,
        template=True,
    ),
    "qwen2": lambda: byte_level("qwen2", _known("qwen2"), specials=_IM, nfc=True),
    "qwen3": lambda: byte_level(
        "qwen3",
        _known("qwen2"),
        specials=(*_IM[:2], *_FIM, _IM[2]),
        plain=("<think>", "</think>", "<tool_call>", "</tool_call>"),
        nfc=True,
    ),
    "gemma": lambda: _gemma(),
    "gemma with plain runs": lambda: _gemma(user_defined_are_added=False),
    "phi-3": lambda: sentencepiece_kind(
        "phi3", LEGACY, None, extra=_phi3_tokens(), stripping=["</s>"], name="a Phi-3 model"
    ),
    "phi-4": lambda: byte_level("phi3", _kept("dbrx"), specials=(*_FIM, *_IM)),
    "phi-4-mini": lambda: byte_level("phi3", _known("gpt-4o"), specials=_PHI3),
    "granite": lambda: byte_level(
        "granite", _known("refact"), specials=("<fim_prefix>", "<|start_of_role|>", "<|endoftext|>")
    ),
    "olmo2": lambda: byte_level("olmo2", _kept("dbrx"), specials=_IM, bos="<|endoftext|>"),
    "starcoder2": lambda: byte_level(
        "starcoder2", _known("starcoder"), specials=("<fim_prefix>", "<|endoftext|>")
    ),
    "stablelm": lambda: byte_level("stablelm", _kept("stablelm2"), specials=_IM),
    "falcon": lambda: byte_level(
        "falcon", _known("falcon"), specials=(">>TITLE<<", "<|endoftext|>")
    ),
    "deepseek-v2": lambda: byte_level(
        "deepseek_v2",
        _known("deepseek-llm"),
        specials=_deepseek_tokens(),
        plain=("<|User|>",),
        bos=_deepseek_tokens()[0],
        template=True,
    ),
    "gpt2": lambda: byte_level("gpt2", _known("gpt-2"), specials=("<|endoftext|>",)),
}
"""By name, how to make a tokenizer of that kind."""


@functools.cache
def kind(name: str) -> Kind:
    return KINDS[name]()


def with_free_merges(name: str) -> Kind:
    """A byte-level kind whose merges would join across cuts."""
    made = kind(name)
    tokenizer = json.loads(made.files["tokenizer.json"])
    settings = json.loads(made.files["tokenizer_config.json"])
    return byte_level(
        str(made.config["model_type"]),
        tokenizer["pre_tokenizer"],
        specials=[t["content"] for t in tokenizer["added_tokens"] if t["special"]],
        bos=settings["bos_token"],
        nfc=tokenizer["normalizer"] is not None,
        ignore_merges=tokenizer["model"]["ignore_merges"],
        free_merges=True,
    )
