"""What is not converted: the message says where and why, and nothing is left behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.conversion import convert as module
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.reading import read_portable
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_field import GgufField, float32, string, uint32
from tests.conversion.files import (
    changed_apr,
    changed_directory,
    changed_gguf,
    names_in,
    tiny,
    with_value,
)


def refused(source: Path, target: Path, quantization: str | None = None, **options: Any) -> str:
    """What is said; nothing may be left beside the target."""
    before = names_in(target.parent)
    kind = None if quantization is None else Quantization(quantization)
    with pytest.raises(AprqaError) as caught:
        convert(source, target, quantization=kind, **options)
    assert names_in(target.parent) == before
    return str(caught.value)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded model as GGUF and APR, plain and quantized."""
    place = tmp_path_factory.mktemp("files")
    kinds = {"gguf": None, "apr": None, "q.gguf": Quantization.Q8_0, "q.apr": Quantization.Q8_0}
    for name, kind in kinds.items():
        convert(tiny(), place / f"m.{name}", quantization=kind)
    return {name: place / f"m.{name}" for name in kinds}


@pytest.mark.parametrize("quantization", ["q5_k_m", "q5_0", "q3_k_m", "q2_k"])
def test_apr_has_not_every_quantization(tmp_path: Path, quantization: str) -> None:
    path = tmp_path / "m.apr"
    assert refused(tiny(), path, quantization) == (
        f"{path}: APR has no {quantization} that all its readers understand; expected f32, f16, "
        "bf16, q4_k_m, q6_k, q8_0, q4_0"
    )


@pytest.mark.parametrize("quantization", [q for q in Quantization if q.startswith("q")])
def test_safetensors_hold_no_blocks(tmp_path: Path, quantization: str) -> None:
    path = tmp_path / "m"
    assert refused(tiny(), path, quantization) == (
        f"{path}: safetensors hold no {quantization}; expected one of f32, f16, bf16, "
        "or a .gguf file"
    )


@pytest.mark.parametrize("source", ["q.gguf", "q.apr"])
@pytest.mark.parametrize(
    ("name", "to"), [("m.gguf", "q4_0"), ("m.apr", "q4_k_m"), ("m.apr", "q8_0")]
)
def test_what_is_quantized_is_not_quantized_again(
    files: dict[str, Path], tmp_path: Path, source: str, name: str, to: str
) -> None:
    assert refused(files[source], tmp_path / name, to) == (
        f"{files[source]}: is quantized already; quantizing it to {to} would lose twice; "
        "expected the original model"
    )


@pytest.mark.parametrize("name", ["m.gguf", "m.apr", "m"])
def test_what_exists_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"precious")
    assert refused(tiny(), path) == (f"{path}: exists already; expected a new name, or replace it")
    assert path.read_bytes() == b"precious"


def test_a_directory_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters.txt").write_text("dear")
    assert refused(tiny(), home, replace=True) == (
        f"{home}: holds files but no config.json; expected a model's directory to replace, "
        "or a new name"
    )
    assert names_in(home) == ["letters.txt"]


def test_a_directory_is_not_replaced_by_what_lies_in_it(
    files: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "deep").mkdir(parents=True)
    (home / "config.json").write_text("{}")
    source = home / "deep" / "m.gguf"
    shutil.copyfile(files["gguf"], source)
    assert refused(source, home, replace=True) == (
        f"{home}: {source} lies in it and would go with it; expected another name"
    )
    assert source.is_file()


@pytest.mark.parametrize("name", ["m.gguf", "m.apr"])
def test_a_directory_is_no_file_to_write(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    assert refused(tiny(), path, replace=True) == (
        f"{path}: is a directory; expected the name of a file to write"
    )


@pytest.mark.parametrize("name", ["m.gguf", "m.apr"])
def test_an_unknown_family(tmp_path: Path, name: str) -> None:
    source = changed_directory(tmp_path / "s", config=lambda c: c.update(model_type="mamba9"))
    told = refused(source, tmp_path / name)
    assert told.startswith("config.json: model_type is 'mamba9'; expected one of ")
    assert "qwen2" in told


def test_a_lone_safetensors_file(tmp_path: Path) -> None:
    lone = tmp_path / "lone.safetensors"
    shutil.copyfile(tiny() / "model.safetensors", lone)
    for name in ("m.gguf", "m.apr", "m"):
        assert refused(lone, tmp_path / name) == (
            f"{lone}: a lone safetensors file has no config.json; expected its directory"
        )


CONTRADICTIONS = [
    ("qwen2.block_count", uint32(4), "4", "3"),
    ("qwen2.rope.freq_base", float32(5e5), "500000.0", "10000.0"),
    ("qwen2.attention.head_count_kv", uint32(8), "8", "2"),
]


@pytest.mark.parametrize(("key", "field", "found", "expected"), CONTRADICTIONS)
def test_a_gguf_config_that_contradicts_the_keys(
    files: dict[str, Path], tmp_path: Path, key: str, field: GgufField, found: str, expected: str
) -> None:
    path = changed_gguf(files["gguf"], tmp_path / "c.gguf", lambda f: f.update({key: field}))
    told = refused(path, tmp_path / "m")
    assert told.splitlines()[0] == f"{path}: {key} is {found}; config.json makes it {expected}"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("num_heads", 4, "8"),
        ("rope_theta", 5e5, "10000.0"),
        ("rms_norm_eps", 1e-5, "1e-06"),
        ("tied_embeddings", 1, "True"),
        ("architecture", "llama", "'qwen2'"),
        ("rope_type", None, "2"),
    ],
)
def test_an_apr_config_that_contradicts_the_metadata(
    files: dict[str, Path], tmp_path: Path, key: str, value: Any, expected: str
) -> None:
    path = changed_apr(files["apr"], tmp_path / "c.apr", lambda m: m.update({key: value}))
    told = refused(path, tmp_path / "m")
    assert f"{path}: {key} is {value!r}; config.json makes it {expected}" in told.splitlines()


def test_a_float_that_was_printed_as_float32_is_no_contradiction(
    files: dict[str, Path], tmp_path: Path
) -> None:
    near = float(np.float32(1e-6))
    assert near != 1e-6
    path = changed_apr(files["apr"], tmp_path / "c.apr", lambda m: m.update(rms_norm_eps=near))
    assert read_portable(path).config["rms_norm_eps"] == 1e-6


Plant = Callable[[Any], None]
_TYPES = "aprqa.source_dtypes"


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (lambda f: f.update({"aprqa.config": uint32(1)}), "aprqa.config: is no text; expected a"),
        (lambda f: f.update({"aprqa.config": string("[1]")}), "aprqa.config: "),
        (lambda f: f.update({"aprqa.config": string("{")}), "aprqa.config: "),
        (lambda f: f.update({_TYPES: string('{"F16": 1}')}), f"{_TYPES}: F16 is no list of names"),
        (lambda f: f.update({_TYPES: string('{"F16": [1]}')}), f"{_TYPES}: F16 is no list of"),
    ],
)
def test_what_a_gguf_file_carries_of_ours_is_checked(
    files: dict[str, Path], tmp_path: Path, plant: Plant, told: str
) -> None:
    path = changed_gguf(files["gguf"], tmp_path / "c.gguf", plant)
    with pytest.raises(CheckpointError) as caught:
        read_portable(path)
    assert str(caught.value).startswith(f"{path}: {told}")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("hf_config", [1], "hf_config is no object; expected config.json in it"),
        (_TYPES, [1], f"{_TYPES}: is no object; expected encoding to names"),
        (_TYPES, {"F16": "x"}, f"{_TYPES}: F16 is no list of names; expected one"),
    ],
)
def test_what_an_apr_file_carries_of_ours_is_checked(
    files: dict[str, Path], tmp_path: Path, key: str, value: Any, told: str
) -> None:
    path = changed_apr(files["apr"], tmp_path / "c.apr", lambda m: m.update({key: value}))
    with pytest.raises(CheckpointError) as caught:
        read_portable(path)
    assert str(caught.value) == f"{path}: {told}"


def test_a_value_that_its_own_dtype_no_longer_holds(tmp_path: Path) -> None:
    """The embedding was BF16, the file has it in F32, and then somebody trains it on."""
    convert(tiny(), tmp_path / "m.gguf", quantization=Quantization.F32)
    dtypes = string('{"BF16":["model.norm.weight"]}')
    fine = changed_gguf(
        tmp_path / "m.gguf", tmp_path / "fine.gguf", lambda f: f.update({_TYPES: dtypes})
    )
    convert(fine, tmp_path / "fine")
    other = changed_directory(
        tmp_path / "other", tensor=with_value("model.norm.weight", 1 + 2**-20)
    )
    convert(other, tmp_path / "o.gguf")
    path = changed_gguf(
        tmp_path / "o.gguf", tmp_path / "c.gguf", lambda f: f.update({_TYPES: dtypes})
    )
    assert refused(path, tmp_path / "m") == (
        "tensor model.norm.weight: its values no longer fit in BF16, which the original had; "
        "the file was changed: keep it in F32"
    )


_DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("name", "quantization", "value", "told"),
    [
        ("m.gguf", "f16", 1e6, "F16 cannot hold 1e+06; its largest value is 65504; use BF16"),
        ("m.apr", "f16", -1e6, "F16 cannot hold 1e+06; its largest value is 65504; use BF16"),
        ("m", "f16", 65520, "F16 cannot hold 65520; its largest value is 65504; use BF16"),
        ("m.apr", "q8_0", np.inf, "APR_Q8 cannot hold inf; expected finite values"),
        ("m.apr", "q4_0", np.nan, "APR_Q4 cannot hold nan; expected finite values"),
    ],
)
def test_a_value_that_the_encoding_cannot_hold(
    tmp_path: Path, name: str, quantization: str, value: float, told: str
) -> None:
    source = changed_directory(tmp_path / "s", tensor=with_value(_DOWN, value))
    tensor = "blk.0.ffn_down.weight" if name.endswith("gguf") else _DOWN
    assert refused(source, tmp_path / name, quantization) == f"tensor {tensor}: {told}"
    convert(
        changed_directory(tmp_path / "fine", tensor=with_value(_DOWN, 65504)),
        tmp_path / name,
        quantization=Quantization(quantization),
    )


def test_llama_cpps_refusal_names_the_source(tmp_path: Path) -> None:
    source = changed_directory(tmp_path / "s", tensor=with_value(_DOWN, np.nan))
    for name in ("m.gguf", "m.apr"):
        told = refused(source, tmp_path / name, "q4_k_m")
        assert told.startswith(f"{source}: llama.cpp does not quantize it to q4_k_m: ")


def test_apr_needs_rows_of_256_for_llama_cpps_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a model is whose every row llama.cpp gave blocks of 32."""

    def narrow(path: Path, *, decode_to: str | None = "F32") -> Any:
        model = read_portable(path, decode_to=decode_to)
        if decode_to is not None:
            return model
        return replace(model, tensors=tuple(t.as_encoding("F32") for t in model.tensors))

    monkeypatch.setattr(module, "read_portable", narrow)
    assert refused(tiny(), tmp_path / "m.apr", "q4_k_m") == (
        "no tensor has rows of a multiple of 256 values, which APR's Q4_K and Q6_K need; "
        "expected another model, or q8_0 or q4_0"
    )


@pytest.mark.parametrize("name", ["m.gguf", "m.apr", "m"])
def test_a_failure_amid_the_tensors_leaves_nothing(tmp_path: Path, name: str) -> None:
    def stop(tensor: str, done: int, total: int) -> None:
        if done > total // 2:
            raise ConversionError(f"stopped at {tensor}")

    assert refused(tiny(), tmp_path / name, progress=stop).startswith("stopped at ")
    (tmp_path / name).mkdir() if name == "m" else (tmp_path / name).write_bytes(b"old")
    assert refused(tiny(), tmp_path / name, replace=True, progress=stop).startswith("stopped at ")
    assert name == "m" or (tmp_path / name).read_bytes() == b"old"


def test_an_apr_file_with_a_flipped_bit_is_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "m.apr"
    convert(tiny(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        convert(path, tmp_path / "m.gguf")
    assert str(caught.value).startswith(f"{path}: ")
    assert "checksum" in str(caught.value)
    assert not (tmp_path / "m.gguf").exists()
