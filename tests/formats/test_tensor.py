"""Tensors whose bytes are made when asked for."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.tensor import Tensor

RAW = np.array([1, 2, 3, 4], np.float32).view(np.uint8)
W = Tensor("w", "F32", (2, 2), lambda: RAW)


def test_encodings_names_and_changes() -> None:
    assert W.nbytes == 16
    assert W.named("v").name == "v"
    assert W.as_encoding("F32") is W
    half = W.as_encoding("F16")
    assert half.nbytes == half.read().nbytes == 8
    assert half.values().tolist() == [[1, 2], [3, 4]]
    turned = W.derived((4,), lambda values: values.T.reshape(-1), encoding="BF16")
    assert turned.values().tolist() == [1, 3, 2, 4]
    with pytest.raises(CheckpointError, match="unknown encoding 'Q9'"):
        W.as_encoding("Q9")
