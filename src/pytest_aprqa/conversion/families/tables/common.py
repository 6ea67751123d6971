"""Rows that many families' tables share."""

from __future__ import annotations

from pytest_aprqa.conversion.families.family_table import GgufKey, Option, TensorRule

LAYER, BLOCK = "model.layers.{n}.", "blk.{n}."


def sizes(
    *, vocab_key: bool, inter: bool = True, inter_key: str = "intermediate_size"
) -> tuple[Option, ...]:
    """The sizes every decoder has, under the names of transformers' newer models."""
    vocab = Option(
        *("vocab", "vocab_size", "count"),
        gguf="vocab_size" if vocab_key else "",
        optional=True,
        shape=("token_embd.weight", 0),
    )
    return (
        vocab,
        Option("hidden", "hidden_size", "count", gguf="embedding_length"),
        *((Option("inter", inter_key, "count", gguf="feed_forward_length"),) if inter else ()),
        Option("layers", "num_hidden_layers", "count", gguf="block_count"),
        Option("heads", "num_attention_heads", "count", gguf="attention.head_count"),
    )


def kv_heads(default: int | None = None) -> Option:
    """Key-value heads: as many as heads unless the family has another default."""
    return Option(
        *("kv_heads", "num_key_value_heads", "count"),
        default=default if default is not None else lambda settings: settings["heads"],
        gguf="attention.head_count_kv",
        optional=True,
    )


def positions(default: int, key: str = "max_position_embeddings") -> Option:
    """The longest context."""
    return Option("positions", key, "count", default, gguf="context_length")


def rms_eps(default: float) -> Option:
    """What keeps a root-mean-square norm from dividing by zero."""
    return Option("eps", "rms_norm_eps", "number", default, gguf="attention.layer_norm_rms_epsilon")


def layer_eps(key: str, default: float) -> Option:
    """What keeps a layer norm from dividing by zero."""
    return Option("eps", key, "number", default, gguf="attention.layer_norm_epsilon")


def head_dim(default: int | None = None) -> Option:
    """The size of a head; absent: hidden size over heads."""
    return Option(
        *("head_dim", "head_dim", "count", default), gguf="attention.key_length", optional=True
    )


def tied(default: bool) -> Option:
    """Whether the head is the embedding: GGUF then has no output.weight."""
    return Option("tied", "tie_word_embeddings", "flag", default, tensor="!output.weight")


def activation(value: str, key: str = "hidden_act") -> Option:
    """The one activation function that llama.cpp computes in this family."""
    return Option("act", key, "text", value, allowed=(value,))


def never(name: str, key: str) -> Option:
    """A flag that must be false."""
    return Option(name, key, "flag", False, allowed=(False,))


KEY_LENGTH = GgufKey("attention.key_length", "uint32", "head_dim", implied=True)
IMPLIED = (
    KEY_LENGTH,
    GgufKey("attention.value_length", "uint32", "head_dim", implied=True),
    GgufKey("rope.dimension_count", "uint32", "rotary", implied=True),
    GgufKey("vocab_size", "uint32", "vocab", implied=True),
    GgufKey("attention.head_count_kv", "uint32", "kv_heads", implied=True),
)
"""What other converters write besides; it must agree."""

EMBEDDING = TensorRule("model.embed_tokens", "token_embd", ("vocab", "hidden"))
NORM = TensorRule("model.norm", "output_norm", ("hidden",))
HEAD = TensorRule("lm_head", "output", ("vocab", "hidden"), when="!tied")


def norms(
    first: str = "input_layernorm", second: str = "post_attention_layernorm"
) -> tuple[TensorRule, TensorRule]:
    """The norm before attention and the one before the feed-forward network."""
    return (
        TensorRule(LAYER + first, BLOCK + "attn_norm", ("hidden",)),
        TensorRule(LAYER + second, BLOCK + "ffn_norm", ("hidden",)),
    )


def attention(
    *, bias: str = "", out_bias: str = "", paired: bool = False
) -> tuple[TensorRule, ...]:
    """Separate query, key and value projections; `paired`: rows woven for llama.cpp."""
    own, block = LAYER + "self_attn.", BLOCK
    queries, keys = ("queries", "keys") if paired else ("", "")
    return (
        TensorRule(own + "q_proj", block + "attn_q", ("q", "hidden"), bias, queries),
        TensorRule(own + "k_proj", block + "attn_k", ("kv", "hidden"), bias, keys),
        TensorRule(own + "v_proj", block + "attn_v", ("kv", "hidden"), bias),
        TensorRule(own + "o_proj", block + "attn_output", ("hidden", "q"), out_bias),
    )


def gated(*, bias: str = "", when: str = "") -> tuple[TensorRule, ...]:
    """Gate, up and down projections."""
    own, block = LAYER + "mlp.", BLOCK
    return (
        TensorRule(own + "gate_proj", block + "ffn_gate", ("inter", "hidden"), bias, when=when),
        TensorRule(own + "up_proj", block + "ffn_up", ("inter", "hidden"), bias, when=when),
        TensorRule(own + "down_proj", block + "ffn_down", ("hidden", "inter"), bias, when=when),
    )


def head_norms(size: str = "head_dim", keys: str = "") -> tuple[TensorRule, TensorRule]:
    """Norms of queries and keys."""
    return (
        TensorRule(LAYER + "self_attn.q_norm", BLOCK + "attn_q_norm", (size,)),
        TensorRule(LAYER + "self_attn.k_norm", BLOCK + "attn_k_norm", (keys or size,)),
    )
