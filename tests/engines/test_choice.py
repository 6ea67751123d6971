"""Which engine runs a target, and why some cannot be run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.conversion import reading
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.portable import ConversionError, PortableModel
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format, Modality, Quantization
from pytest_aprqa.domain.plan import Target
from pytest_aprqa.engines import choice
from pytest_aprqa.engines.choice import load_engine, load_file, why_unavailable
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.formats.checkpoint import CheckpointError
from tests.conversion.files import changed_apr, tiny
from tests.engines.gguf_models import write_gguf

REQUEST = GenerationRequest(prompt="What is 2 + 2?", max_tokens=4)


def _target(format_: Format, backend: Backend = Backend.CPU) -> Target:
    return Target("embedded/aprqa-tiny", format_, Quantization.F16, backend)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read as models."""
    paths: list[Path] = []

    def read_portable(path: Path) -> PortableModel:
        paths.append(path)
        return reading_as_it_is(path)

    reading_as_it_is = reading.read_portable
    monkeypatch.setattr(reading, "read_portable", read_portable)
    return paths


@pytest.mark.parametrize("format_", list(Format))
@pytest.mark.parametrize("modality", [Modality.RUN, Modality.CHAT, None])
def test_every_format_can_be_asked_on_the_cpu(format_: Format, modality: Modality | None) -> None:
    assert why_unavailable(_target(format_), modality) is None


@pytest.mark.parametrize("format_", list(Format))
def test_what_cannot_be_asked(format_: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: False)
    served = why_unavailable(_target(format_), Modality.SERVE)
    assert served == "this version does not serve models over HTTP yet"
    assert why_unavailable(_target(format_, Backend.GPU), Modality.RUN) == "no CUDA device"
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: True)
    assert why_unavailable(_target(format_, Backend.GPU), Modality.RUN) is None


def test_safetensors_run_with_transformers(model_directory: Path) -> None:
    engine = load_engine(_target(Format.SAFETENSORS), model_directory, threads=2)
    assert engine.describe()["engine"].startswith("transformers 5.")
    assert engine.describe()["threads"] == "1"  # it is small


@pytest.mark.parametrize(("exact", "cache"), [(False, "float16"), (True, "float32")])
def test_gguf_runs_with_llamacpp_on_the_cpu(tmp_path: Path, exact: bool, cache: str) -> None:
    path = write_gguf(tmp_path / "m.gguf", half=True)
    engine = load_engine(_target(Format.GGUF), path, threads=2, exact=exact)
    told = engine.describe()
    answer = engine.generate(REQUEST)
    engine.close()
    assert told["engine"].startswith("llama.cpp ")
    assert (told["threads"], told["kv_cache"], told["weights"]) == ("1", cache, "F16")
    assert answer.completion_tokens > 1


def test_apr_runs_with_transformers_over_its_own_weights(
    tmp_path: Path, model_directory: Path, read: list[Path]
) -> None:
    path = tmp_path / "m.apr"
    convert(model_directory, path)
    engine = load_engine(_target(Format.APR), path, threads=2)
    told = engine.describe()
    assert told["engine"].endswith(" over apr")
    assert (told["file"], told["threads"]) == ("m.apr", "1")
    assert engine.generate(REQUEST).completion_tokens == 4
    assert read == [path]


def test_gguf_with_transformers_is_the_second_opinion(tmp_path: Path, read: list[Path]) -> None:
    path = tmp_path / "m.gguf"
    convert(tiny(), path)
    engine = load_file(path, Format.GGUF, backend=Backend.CPU, threads=1)
    assert engine.describe()["engine"].endswith(" over gguf")
    original = load_engine(_target(Format.SAFETENSORS), tiny())
    assert engine.generate(REQUEST).text == original.generate(REQUEST).text
    assert read == [path]


@pytest.mark.parametrize("format_", list(Format))
def test_a_device_that_is_not_there_reads_no_file(
    format_: Format, model_directory: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=r"no CUDA device: torch .* sees none"):
        load_engine(_target(format_, Backend.GPU), model_directory)
    assert read == []


def test_a_file_that_cannot_be_read_does_not_load(tmp_path: Path, model_directory: Path) -> None:
    path = tmp_path / "m.apr"
    convert(model_directory, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(LoadFailed) as caught:
        load_engine(_target(Format.APR), path)
    assert isinstance(caught.value.__cause__, CheckpointError)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_contradicts_itself_does_not_load(
    tmp_path: Path, model_directory: Path
) -> None:
    convert(model_directory, tmp_path / "m.apr")
    path = changed_apr(
        tmp_path / "m.apr", tmp_path / "c.apr", lambda m: m.update(num_heads=1, rope_theta=1.0)
    )
    with pytest.raises(LoadFailed) as caught:
        load_engine(_target(Format.APR), path)
    assert isinstance(caught.value.__cause__, ConversionError)
    told = str(caught.value)
    assert told.startswith(f"{path}: num_heads is 1; config.json makes it ")
    assert f" {path}: rope_theta is 1.0; config.json makes it " in told
    assert "\n" not in told


def _sparse(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size)


def test_small_is_what_all_files_hold_together(tmp_path: Path) -> None:
    half = choice.SMALL_BYTES // 2
    for name in ("a.safetensors", "b.safetensors", "m-00001-of-00003.gguf", "m.apr"):
        _sparse(tmp_path / name, half)
    assert not choice._is_small(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    assert choice._is_small(tmp_path)
    assert choice._is_small(tmp_path / "m.apr")
    assert choice._is_small(tmp_path / "m-00001-of-00003.gguf")
    _sparse(tmp_path / "m-00002-of-00003.gguf", half)
    assert not choice._is_small(tmp_path / "m-00001-of-00003.gguf")
    _sparse(tmp_path / "m-00002-of-00002.gguf", half)
    assert choice._is_small(tmp_path / "m-00002-of-00002.gguf")  # of another model
