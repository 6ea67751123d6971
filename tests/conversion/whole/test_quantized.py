"""Whole models quantized: they load in both engines, near the original and alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.model import Backend, Format, Quantization
from pytest_aprqa.engines.choice import load_file
from pytest_aprqa.engines.engine import Engine
from pytest_aprqa.engines.llamacpp_engine import load_gguf
from pytest_aprqa.engines.transformers_engine import load
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.huggingface import open_huggingface
from pytest_aprqa.formats.tensor import tensors_of
from tests.conversion.families.small_models import contents
from tests.conversion.whole.conftest import Made, made_of
from tests.conversion.whole.models import WHOLES, WIDE_WHOLES

TEXT = "It was the best of times; I don't know 1984's 365 days.\nDer Fluss fließt durch das Tal."
Logits = np.ndarray[Any, Any]
Q8_0, Q4_K_M = Quantization.Q8_0, Quantization.Q4_K_M


def some(*names: str) -> pytest.MarkDecorator:
    """For these models alone."""
    chosen = [whole for whole in WHOLES if whole.name in names]
    assert len(chosen) == len(names)
    return pytest.mark.parametrize("made", chosen, indirect=True, ids=lambda whole: whole.name)


@pytest.fixture(scope="module", params=WIDE_WHOLES, ids=lambda whole: whole.name)
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_of(request.param, tmp_path_factory.mktemp("wide"))


def in_transformers(path: Path) -> Engine:
    if path.is_dir():
        return load(path, backend=Backend.CPU, dtype="float32", threads=1)
    return load_file(path, Format(path.suffix[1:]), backend=Backend.CPU, threads=1)


def in_llama_cpp(path: Path, ids: tuple[int, ...]) -> Iterator[Logits]:
    engine = load_gguf(path, threads=1, exact=True)
    yield engine.logits(ids)
    engine.close()


def divergence(expected: Logits, found: Logits) -> float:
    """Mean KL divergence of the distributions, in nats a token."""

    def log_softmax(logits: Logits) -> Logits:
        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        kept: Logits = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return kept

    p, q = log_softmax(expected), log_softmax(found)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())


def check(made: Made, quantization: Quantization, tmp_path: Path, limit: float) -> None:
    """GGUF in both engines, APR, and the directories that they decode to."""
    engine = in_transformers(made.directory)
    ids = engine.tokenize(TEXT, special=True)
    expected = engine.logits(ids)
    gguf, apr = tmp_path / "q.gguf", tmp_path / "q.apr"
    for path in (gguf, apr):
        convert(made.directory, path, quantization=quantization)
        convert(path, tmp_path / f"of-{path.suffix[1:]}")
    assert gguf.stat().st_size < made.gguf.stat().st_size
    assert apr.stat().st_size < made.apr.stat().st_size
    seen = {path.suffix: in_transformers(path).logits(ids) for path in (gguf, apr)}
    (seen["llama.cpp"],) = in_llama_cpp(gguf, ids)
    for name, found in seen.items():
        assert np.isfinite(found).all(), name
        assert 0 < divergence(expected, found) < limit, name
    # llama.cpp rounds activations to 8 bits too.
    assert divergence(seen[".gguf"], seen["llama.cpp"]) < limit
    # The decoded values, written as safetensors and read by transformers' own reader.
    assert np.array_equal(in_transformers(tmp_path / "of-apr").logits(ids), seen[".apr"])


def held(directory: Path) -> dict[str, tuple[Any, ...]]:
    """Tensors by name, and config.json under a name that no tensor has."""
    config = json.loads((directory / "config.json").read_text("utf-8"))
    return {**contents(tensors_of(open_huggingface(directory))), "": (config,)}


def test_q8_0(made: Made, tmp_path: Path) -> None:
    check(made, Q8_0, tmp_path, 0.05)


def test_q4_k_m(wide: Made, tmp_path: Path) -> None:
    check(wide, Q4_K_M, tmp_path, 0.5)
    gguf, apr = GgufFile.open(tmp_path / "q.gguf"), AprFile.open(tmp_path / "q.apr")
    assert {info.dtype for info in gguf.tensors.values()} >= {"Q4_K", "Q6_K"}
    blocks = [name for name, info in apr.tensors.items() if info.dtype in ("Q4_K", "Q6_K")]
    of_gguf, of_apr = held(tmp_path / "of-gguf"), held(tmp_path / "of-apr")
    assert len(blocks) > 10
    for name in blocks:
        if name in of_apr:  # not a copied head
            assert of_apr[name] == of_gguf[name], name


@some("llama-3", "gemma-2", "phi-3", "qwen3-moe", "deepseek-v2", "gpt-2")
def test_decoded_by_any_way_it_is_the_same(made: Made, tmp_path: Path) -> None:
    """Through APR, which has no such blocks, and through GGUF, where what lies transposed is F32.

    Of a model published in 16 bits, whose values decoded blocks do not fit.
    """
    convert(made.directory, tmp_path / "published", quantization=Quantization.BF16)
    convert(tmp_path / "published", tmp_path / "q.gguf", quantization=Q8_0)
    convert(tmp_path / "q.gguf", tmp_path / "direct")
    expected = held(tmp_path / "direct")
    assert expected[""][0]["dtype"] == "float32"
    for suffix in ("apr", "gguf"):
        convert(tmp_path / "q.gguf", tmp_path / f"by.{suffix}")
        convert(tmp_path / f"by.{suffix}", tmp_path / f"by-{suffix}")
        assert held(tmp_path / f"by-{suffix}") == expected


@some("llama-2", "falcon", "deepseek-v2", "gpt-2")
def test_k_quants_in_apr_need_rows_of_256(made: Made, tmp_path: Path) -> None:
    if made.whole.name == "falcon":  # whose layers' last matrices have 4 * 64 columns
        convert(made.directory, tmp_path / "q.apr", quantization=Q4_K_M)
        kinds = [info.dtype for info in AprFile.open(tmp_path / "q.apr").tensors.values()]
        assert 0 < sum(kind in ("Q4_K", "Q6_K") for kind in kinds) <= 2
        return
    with pytest.raises(ConversionError, match="no tensor has rows of a multiple of 256 values"):
        convert(made.directory, tmp_path / "q.apr", quantization=Q4_K_M)
    assert list(tmp_path.iterdir()) == []
