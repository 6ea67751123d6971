"""The embedded model in all six directions: tensors bit for bit, files byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pytest_aprqa.conversion.convert import Conversion, convert
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.formats.apr_file import AprFile
from pytest_aprqa.formats.gguf_file import GgufFile
from tests.conversion.files import (
    changed_directory,
    companions,
    encodings,
    names_in,
    stored,
    tiny,
    values,
)

TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}é\n{% endfor %}"


@dataclass(frozen=True)
class Trio:
    """One model in three formats."""

    directory: Path
    gguf: Path
    apr: Path


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Trio:
    """The embedded model with a chat template in a file of its own, and what is made of it."""
    place = tmp_path_factory.mktemp("trio")
    source = changed_directory(
        place / "source", files={"chat_template.jinja": TEMPLATE.encode(), "merges.txt": b"\xff\n"}
    )
    convert(source, place / "m.gguf")
    convert(source, place / "m.apr")
    return Trio(source, place / "m.gguf", place / "m.apr")


@pytest.mark.parametrize("middle", ["gguf", "apr"])
def test_a_directory_comes_back_bit_for_bit(trio: Trio, tmp_path: Path, middle: str) -> None:
    back = tmp_path / "back"
    convert(getattr(trio, middle), back)
    assert stored(back) == stored(trio.directory)
    assert set(encodings(back).values()) == {"BF16"}
    assert companions(back) == companions(trio.directory)
    assert {"chat_template.jinja", "generation_config.json", "merges.txt"} <= set(companions(back))
    assert names_in(tmp_path) == ["back"]


@pytest.mark.parametrize("middle", ["gguf", "apr"])
def test_a_file_that_went_through_a_directory_is_the_same_file(
    trio: Trio, tmp_path: Path, middle: str
) -> None:
    file = getattr(trio, middle)
    convert(file, tmp_path / "between")
    convert(tmp_path / "between", tmp_path / file.name)
    assert (tmp_path / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(("source", "target"), [("apr", "gguf"), ("gguf", "apr")])
def test_the_way_over_the_third_format_ends_in_the_same_file(
    trio: Trio, tmp_path: Path, source: str, target: str
) -> None:
    expected = getattr(trio, target)
    convert(getattr(trio, source), tmp_path / expected.name)
    assert (tmp_path / expected.name).read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("kind", ["directory", "gguf", "apr"])
def test_a_format_to_itself_changes_nothing(trio: Trio, tmp_path: Path, kind: str) -> None:
    source = getattr(trio, kind)
    target = tmp_path / source.name
    convert(source, target)
    assert stored(target) == stored(source)
    if kind == "directory":
        assert companions(target) == companions(source)
    else:
        assert target.read_bytes() == source.read_bytes()


def test_matrices_are_carried_as_they_are_and_vectors_widened(trio: Trio) -> None:
    for path in (trio.gguf, trio.apr):
        for name, (encoding, shape, _) in stored(path).items():
            assert encoding == ("BF16" if len(shape) == 2 else "F32"), name
    fields = GgufFile.open(trio.gguf).metadata
    dtypes = json.loads(fields["aprqa.source_dtypes"])
    assert dtypes == AprFile.open(trio.apr).metadata["aprqa.source_dtypes"]
    assert {kind: len(names) for kind, names in dtypes.items()} == {"BF16": 38}
    assert (fields["general.file_type"], fields["general.architecture"]) == (32, "qwen2")
    assert "general.quantization_version" not in fields


def test_mixed_dtypes_come_back_each_to_its_own(tmp_path: Path) -> None:
    kinds = {"q_proj.weight": "F32", "norm.weight": "F16", "k_proj.bias": "F32"}

    def kind_of(name: str) -> str:
        return next((kind for end, kind in kinds.items() if name.endswith(end)), "BF16")

    source = changed_directory(tmp_path / "s", tensor=lambda t: t.as_encoding(kind_of(t.name)))
    for name in ("m.gguf", "m.apr"):
        back = tmp_path / f"{name} back"
        convert(source, tmp_path / name)
        convert(tmp_path / name, back)
        assert stored(back) == stored(source)
        assert set(encodings(back).values()) == {"F32", "F16", "BF16"}


def test_a_model_in_shards_is_the_same_model(trio: Trio, tmp_path: Path) -> None:
    shards = changed_directory(
        tmp_path / "shards", shard_bytes=600_000, files={"chat_template.jinja": b"x"}
    )
    assert len(list(shards.glob("model-*-of-*.safetensors"))) > 3
    single = changed_directory(tmp_path / "single", files={"chat_template.jinja": b"x"})
    for name in ("m.gguf", "m.apr"):
        convert(shards, tmp_path / name)
        convert(single, tmp_path / f"single-{name}")
        assert (tmp_path / name).read_bytes() == (tmp_path / f"single-{name}").read_bytes()
    convert(shards, tmp_path / "joined")
    assert stored(tmp_path / "joined") == stored(single)
    assert not list((tmp_path / "joined").glob("*.index.json"))


@pytest.mark.parametrize("quantization", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("name", ["m.gguf", "m.apr", "m"])
def test_a_cast_changes_matrices_alone_but_in_a_directory(
    tmp_path: Path, quantization: str, name: str
) -> None:
    target = tmp_path / name
    made = convert(tiny(), target, quantization=Quantization(quantization))
    kind = quantization.upper()
    for tensor, (encoding, shape, _) in stored(target).items():
        assert encoding == (kind if len(shape) == 2 or name == "m" else "F32"), tensor
    assert made.quantization is Quantization(quantization)
    plain = tmp_path / f"plain-{name}"
    convert(tiny(), plain)
    expected = values(plain)
    for tensor, found in values(target).items():
        wanted = expected[tensor]
        if encodings(target)[tensor] == "F16":
            wanted = wanted.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))
    if name == "m":
        dtype = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[quantization]
        config = json.loads((target / "config.json").read_bytes())
        assert config == json.loads((tiny() / "config.json").read_bytes()) | {"dtype": dtype}
    elif name == "m.gguf":
        file_type = {"f32": 0, "f16": 1, "bf16": 32}[quantization]
        assert GgufFile.open(target).metadata["general.file_type"] == file_type


def test_what_was_cast_comes_back_as_it_was_cast(tmp_path: Path) -> None:
    for name in ("m.gguf", "m.apr"):
        convert(tiny(), tmp_path / name, quantization=Quantization.F16)
        back = tmp_path / f"{name} back"
        convert(tmp_path / name, back)
        found, source = stored(back), stored(tiny())
        for tensor, (encoding, shape, data) in source.items():
            if len(shape) == 2:
                assert found[tensor][0] == "F16"
            else:
                assert found[tensor] == (encoding, shape, data)


def test_the_dtype_is_changed_under_the_name_that_it_has(tmp_path: Path) -> None:
    def older(config: dict[str, object]) -> None:
        config["torch_dtype"] = config.pop("dtype")

    source = changed_directory(tmp_path / "old", config=older)
    convert(source, tmp_path / "m", quantization=Quantization.F32)
    config = json.loads((tmp_path / "m" / "config.json").read_bytes())
    assert config["torch_dtype"] == "float32"
    assert "dtype" not in config


@pytest.mark.parametrize(
    ("name", "format_"),
    [("m.gguf", Format.GGUF), ("m.apr", Format.APR), ("m", Format.SAFETENSORS)],
)
def test_what_was_made_is_reported(tmp_path: Path, name: str, format_: Format) -> None:
    told: list[tuple[str, int, int]] = []
    target = tmp_path / name
    made = convert(tiny(), target, progress=lambda *step: told.append(step))
    files = [target] if target.is_file() else list(target.iterdir())
    size = sum(file.stat().st_size for file in files)
    assert made == Conversion(tiny(), target, format_, None, False, made.seconds, size)
    assert 0 < made.seconds < 60
    written = [done for _, done, _ in told]
    assert len(told) == len(stored(target))
    assert written == sorted(written)
    assert len({total for *_, total in told}) == 1
    assert 0.99 * told[-1][2] <= written[-1] <= told[-1][2]


Make = Callable[[Path], None]


def _file(path: Path) -> None:
    path.write_bytes(b"before")


def _model(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "extra.bin").write_bytes(b"before")


@pytest.mark.parametrize(("name", "make"), [("m.gguf", _file), ("m.apr", _file), ("m", _model)])
def test_what_is_there_is_replaced_when_asked_for(tmp_path: Path, name: str, make: Make) -> None:
    make(tmp_path / name)
    convert(tiny(), tmp_path / name, replace=True)
    convert(tiny(), tmp_path / f"other-{name}")
    assert stored(tmp_path / name) == stored(tmp_path / f"other-{name}")
    assert names_in(tmp_path) == sorted([name, f"other-{name}"])
    assert not (tmp_path / name / "extra.bin").exists()


def test_a_file_is_converted_onto_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    convert(tiny(), path)
    before = path.read_bytes()
    convert(path, path, replace=True)
    assert path.read_bytes() == before
