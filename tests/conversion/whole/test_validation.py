"""`aprqa validate` has nothing to say of a whole model, and much of a damaged one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.checks.file_validation import validate_file
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.apr_writer import write_apr
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.tensor import Tensor, tensors_of
from tests.conversion.whole.conftest import Made


def codes(path: Path) -> set[str]:
    return {finding.code for finding in validate_file(path).findings}


def with_nan(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """One value of one matrix, in the last layer, is NaN."""
    broken = [t for t in tensors if len(t.shape) == 2 and t.encoding == "F32"][-1]

    def change(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values = values.copy()
        values[-1, 3] = np.nan
        return values

    return [t.derived(t.shape, change) if t is broken else t for t in tensors]


@pytest.mark.parametrize("which", ["directory", "gguf", "apr"])
def test_nothing_is_wrong_with_any_file(made: Made, which: str) -> None:
    report = validate_file(getattr(made, which))
    assert [f"{finding.code}: {finding.message}" for finding in report.findings] == []
    assert list(report.not_judged) == []


Change = Callable[[GgufFile], dict[str, Any]]


def longer(file: GgufFile) -> dict[str, Any]:
    arch = file.metadata["general.architecture"]
    key = f"{arch}.context_length"
    return {key: replace(file.fields[key], value=file.metadata[key] + 1)}


def exchanged(file: GgufFile) -> dict[str, Any]:
    key = "tokenizer.ggml.tokens"
    texts = list(file.fields[key].value)
    texts[300], texts[301] = texts[301], texts[300]
    return {key: replace(file.fields[key], value=tuple(texts))}


def other_end(file: GgufFile) -> dict[str, Any]:
    key = "tokenizer.ggml.eos_token_id"
    return {key: replace(file.fields[key], value=file.metadata[key] - 1)}


@pytest.mark.parametrize(
    ("change", "said"),
    [(longer, "context_length"), (exchanged, "tokens"), (other_end, "eos_token_id")],
    ids=["longer", "exchanged", "other-end"],
)
def test_one_wrong_key_of_gguf_is_found(
    made: Made, change: Change, said: str, tmp_path: Path
) -> None:
    file = GgufFile.open(made.gguf)
    planted = {**file.fields, **change(file)}
    write_gguf(tmp_path / "m.gguf", fields=planted, tensors=tensors_of(file))
    messages = [finding.message for finding in validate_file(tmp_path / "m.gguf").findings]
    assert any(said in message for message in messages), messages


def test_one_nan_in_gguf_is_found(made: Made, tmp_path: Path) -> None:
    file = GgufFile.open(made.gguf)
    write_gguf(tmp_path / "m.gguf", fields=file.fields, tensors=with_nan(tensors_of(file)))
    assert codes(tmp_path / "m.gguf") == {"not-finite"}


@pytest.mark.parametrize("key", ["max_position_embeddings", "tokenizer.eos_token_id"])
def test_one_wrong_key_of_apr_is_found(made: Made, key: str, tmp_path: Path) -> None:
    file = AprFile.open(made.apr)
    planted = {**file.metadata, key: file.metadata[key] - 1}
    write_apr(tmp_path / "m.apr", metadata=planted, tensors=tensors_of(file))
    messages = [finding.message for finding in validate_file(tmp_path / "m.apr").findings]
    assert any(key in message for message in messages), messages


def test_one_nan_in_apr_is_found(made: Made, tmp_path: Path) -> None:
    file = AprFile.open(made.apr)
    write_apr(tmp_path / "m.apr", metadata=file.metadata, tensors=with_nan(tensors_of(file)))
    assert codes(tmp_path / "m.apr") == {"not-finite"}
