"""A traced pass with its arrays, and how both travel between a child and its parent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.trace import Trace, trace_of

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class TracedPass:
    """What a pass was, and its larger values as float32 arrays.

    Always `logits` [tokens, vocabulary]. At level payload also `hidden` [1 + layers, tokens,
    width], the input of the first layer and what each layer gives; `embedding` and `final` [tokens,
    width], what the embedding and the last norm give; and `attention` [layers, heads, tokens,
    tokens] where it could be recorded.
    """

    trace: Trace
    arrays: Mapping[str, np.ndarray[Any, Any]] = field(repr=False)


def message_of(found: TracedPass) -> tuple[dict[str, Any], bytes]:
    """A traced pass as an object of JSON and bytes."""
    shapes = {name: list(array.shape) for name, array in found.arrays.items()}
    blob = b"".join(array.astype("<f4").tobytes() for array in found.arrays.values())
    return {"trace": found.trace.as_json(), "shapes": shapes}, blob


def pass_of(message: Mapping[str, Any], blob: bytes) -> TracedPass:
    """A traced pass from such a message."""
    import numpy as np

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    start = 0
    for name, shape in message["shapes"].items():
        size = int(np.prod(shape))
        arrays[name] = np.frombuffer(blob, "<f4", size, start).reshape(shape)
        start += 4 * size
    return TracedPass(trace_of(message["trace"]), arrays)
