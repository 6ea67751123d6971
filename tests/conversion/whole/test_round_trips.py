"""What goes from one format to another comes back, bit for bit and byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.portable import TOKENIZER_FILES
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.huggingface import open_huggingface
from pytest_aprqa.formats.tensor import Tensor, tensors_of
from tests.conversion.families.small_models import contents
from tests.conversion.whole.conftest import Made


def there(source: Path, destination: Path, quantization: Quantization | None = None) -> Path:
    convert(source, destination, quantization=quantization)
    return destination


def assert_same_directory(found: Path, expected: Path, *, sums: bool = False) -> None:
    """Every tensor, every file that travels, and what config.json says.

    With `sums` a norm's 1 + weight is what is compared.
    """
    names = {path.name for path in expected.iterdir()} & set(TOKENIZER_FILES)
    assert len(names) >= 4
    assert {path.name for path in found.iterdir()} == {
        *names,
        "config.json",
        "model.safetensors",
    }
    for name in names:
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    configs = [json.loads((each / "config.json").read_text("utf-8")) for each in (found, expected)]
    assert configs[0] == configs[1]
    tensors = [
        contents([with_one(tensor) if sums else tensor for tensor in tensors_of(checkpoint)])
        for checkpoint in (open_huggingface(found), open_huggingface(expected))
    ]
    assert len(tensors[1]) > 10
    assert tensors[0] == tensors[1]


def with_one(tensor: Tensor) -> Tensor:
    """A norm's 1 + weight in float32, which is what Gemma computes with; others as they are."""
    if len(tensor.shape) > 1:
        return tensor
    return tensor.derived(tensor.shape, lambda values: values + np.float32(1))


@pytest.mark.parametrize("format_", ["gguf", "apr"])
def test_the_directory_and_the_file_come_back(made: Made, format_: str, tmp_path: Path) -> None:
    file = made.gguf if format_ == "gguf" else made.apr
    back = there(file, tmp_path / "back")
    # Gemma's GGUF holds 1 + weight: of a weight in 32 bits the last ones are lost, not of the sum.
    gemma = made.whole.family.startswith("gemma")
    assert_same_directory(back, made.directory, sums=gemma and format_ == "gguf")
    again = there(back, tmp_path / f"again.{format_}")
    assert again.read_bytes() == file.read_bytes()


def test_it_does_not_matter_which_way_a_file_was_reached(made: Made, tmp_path: Path) -> None:
    assert there(made.apr, tmp_path / "m.gguf").read_bytes() == made.gguf.read_bytes()
    published = there(made.directory, tmp_path / "published", Quantization.BF16)
    gguf, apr = there(published, tmp_path / "b.gguf"), there(published, tmp_path / "b.apr")
    assert there(gguf, tmp_path / "of-gguf.apr").read_bytes() == apr.read_bytes()
    assert there(apr, tmp_path / "of-apr.gguf").read_bytes() == gguf.read_bytes()


@pytest.mark.parametrize(
    ("narrow", "format_"),
    [(Quantization.BF16, "gguf"), (Quantization.BF16, "apr"), (Quantization.F16, "gguf")],
)
def test_a_model_published_in_16_bits_comes_back(
    made: Made, narrow: Quantization, format_: str, tmp_path: Path
) -> None:
    """Norms and biases too, which both formats keep in 32 bits."""
    published = there(made.directory, tmp_path / "published", narrow)
    file = there(published, tmp_path / f"m.{format_}")
    held = GgufFile.open(file) if format_ == "gguf" else AprFile.open(file)
    assert {info.dtype for info in held.tensors.values()} == {"F32", str(narrow).upper()}
    back = there(file, tmp_path / "back")
    assert_same_directory(back, published)
    assert there(back, tmp_path / f"again.{format_}").read_bytes() == file.read_bytes()
