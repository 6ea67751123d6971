"""Movements of rows: target row i is source row order[i]. No value changes, so any encoding can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from pytest_aprqa.conversion.families.family_table import Settings


def paired(heads: int, head_dim: int) -> np.ndarray[Any, Any]:
    """Halves of each head woven into adjacent pairs: llama.cpp's "normal" rotation.

    Hugging Face rotates row i of a head with row i + head_dim/2, llama.cpp's llama and granite
    row 2i with row 2i + 1 (its LlamaModel.permute).
    """
    import numpy as np

    rows = np.arange(heads * head_dim).reshape(heads, 2, head_dim // 2)
    return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(-1)


def _queries(settings: Settings) -> np.ndarray[Any, Any]:
    return paired(settings["heads"], settings["head_dim"])


def _keys(settings: Settings) -> np.ndarray[Any, Any]:
    return paired(settings["kv_heads"], settings["head_dim"])


def _grouped(settings: Settings) -> np.ndarray[Any, Any]:
    """Falcon's groups of queries, one key and one value: all queries, all keys, all values."""
    import numpy as np

    groups, size = settings["kv_heads"], settings["head_dim"]
    each = settings["heads"] // groups
    rows = np.arange(groups * (each + 2) * size).reshape(groups, each + 2, size)
    parts = (rows[:, :each], rows[:, each], rows[:, each + 1])
    return np.concatenate([part.reshape(-1) for part in parts])


def _latent(settings: Settings) -> np.ndarray[Any, Any]:
    """DeepSeek's kv_b: each head's keys and values; first all keys, then all values."""
    import numpy as np

    heads, nope, size = settings["heads"], settings["nope"], settings["v_dim"]
    rows = np.arange(heads * (nope + size)).reshape(heads, nope + size)
    return np.concatenate((rows[:, :nope].reshape(-1), rows[:, nope:].reshape(-1)))


def _columns(settings: Settings) -> np.ndarray[Any, Any]:
    """GPT-2's fused [in, query key value]: three matrices, cut by columns."""
    import numpy as np

    return np.arange(3 * settings["hidden"]).reshape(-1, 3).T.reshape(-1)


ORDERS: Mapping[str, Callable[[Settings], np.ndarray[Any, Any]]] = MappingProxyType(
    {
        "queries": _queries,
        "keys": _keys,
        "grouped": _grouped,
        "kv_b": _latent,
        "columns": _columns,
    }
)
"""By the names that tables use."""
