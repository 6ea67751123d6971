"""Which engine runs a target, and why some cannot be run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aprqa.conversion import reading
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.portable import ConversionError, PortableModel
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.completion import GenerationRequest
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format, Quantization
from pytest_aprqa.engines import choice, hosted_engine
from pytest_aprqa.engines.choice import load_engine, load_file, why_unavailable
from pytest_aprqa.engines.devices import require_device
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.engines.messages import ChildError
from pytest_aprqa.engines.portable_load import load_portable_file
from pytest_aprqa.engines.torch_host import shutdown
from pytest_aprqa.formats.checkpoint import CheckpointError
from tests.conversion.files import changed_apr, tiny
from tests.engines.gguf_models import write_gguf
from tests.engines.scripted import ScriptedEngine

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
def test_every_format_can_be_asked_on_the_cpu(format_: Format) -> None:
    assert why_unavailable(_target(format_)) is None


@pytest.mark.parametrize("format_", list(Format))
def test_what_cannot_be_asked(format_: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: False)
    assert why_unavailable(_target(format_, Backend.GPU)) == "no CUDA device"
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: True)
    assert why_unavailable(_target(format_, Backend.GPU)) is None


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
    tmp_path: Path, model_directory: Path
) -> None:
    path = tmp_path / "m.apr"
    convert(model_directory, path)
    engine = load_engine(_target(Format.APR), path, threads=2)
    told = engine.describe()
    assert told["engine"].endswith(" over apr")
    assert (told["file"], told["threads"]) == ("m.apr", "1")
    assert engine.generate(REQUEST).completion_tokens == 4


def test_gguf_with_transformers_is_the_second_opinion(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    convert(tiny(), path)
    engine = load_file(path, Format.GGUF, backend=Backend.CPU, threads=1)
    assert engine.describe()["engine"].endswith(" over gguf")
    original = load_engine(_target(Format.SAFETENSORS), tiny())
    assert engine.generate(REQUEST).text == original.generate(REQUEST).text


@pytest.mark.parametrize("format_", [Format.APR, Format.GGUF])
def test_what_the_child_loads_is_the_file_and_nothing_beside_it(
    format_: Format, tmp_path: Path, read: list[Path]
) -> None:
    path = tmp_path / f"m.{format_}"
    convert(tiny(), path)
    engine = load_portable_file(path, format_, backend=Backend.CPU, threads=1)
    assert engine.describe()["engine"].endswith(f" over {format_}")
    assert read == [path]


@pytest.mark.parametrize("format_", [Format.APR, Format.GGUF])
def test_a_device_that_is_not_there_reads_no_file(
    format_: Format, model_directory: Path, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EngineUnavailable, match=r"no CUDA device: torch .* sees none"):
        load_portable_file(model_directory, format_, backend=Backend.GPU)
    assert read == []


@pytest.mark.parametrize("format_", list(Format))
def test_a_device_that_is_not_there_is_told(
    format_: Format, model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    shutdown()  # the next child sees what is visible now
    try:
        with pytest.raises(EngineUnavailable, match=r"no CUDA device: torch .* sees none"):
            load_engine(_target(format_, Backend.GPU), model_directory)
    finally:
        shutdown()


class _OnTheCpu(ScriptedEngine):
    """An engine that was asked for a GPU and says that its weights lie on the CPU."""

    device = "cpu"


@pytest.mark.parametrize("format_", list(Format))
def test_a_model_on_the_cpu_fills_no_cell_of_a_gpu(
    format_: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[_OnTheCpu] = []

    def load(*_args: object, **_kwargs: object) -> _OnTheCpu:
        made.append(_OnTheCpu())
        return made[-1]

    monkeypatch.setattr(hosted_engine, "load", load)
    monkeypatch.setattr(hosted_engine, "load_file", load)
    with pytest.raises(EngineUnavailable) as caught:
        load_engine(_target(format_, Backend.GPU), tmp_path)
    assert str(caught.value) == (
        "asked for backend gpu, but scripted 1 holds the weights on cpu; expected a GPU; "
        "nothing it answers counts for that cell"
    )
    assert made[0].closed


@pytest.mark.parametrize("device", ["cuda:0", "cuda:3", "mps:0"])
def test_a_gpu_fills_no_cell_of_the_cpu(device: str) -> None:
    engine = ScriptedEngine()
    engine.device = device
    require_device(engine, Backend.GPU)
    assert not engine.closed
    with pytest.raises(EngineUnavailable, match=rf"holds the weights on {device}; expected cpu"):
        require_device(engine, Backend.CPU)
    assert engine.closed


def test_an_apple_gpu_needs_no_driver_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: False)
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert why_unavailable(_target(Format.APR, Backend.GPU)) is None
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert why_unavailable(_target(Format.APR, Backend.GPU)) == "no CUDA device"


def test_a_file_that_cannot_be_read_does_not_load(tmp_path: Path, model_directory: Path) -> None:
    path = tmp_path / "m.apr"
    convert(model_directory, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(LoadFailed) as caught:
        load_engine(_target(Format.APR), path)
    assert isinstance(caught.value.__cause__, ChildError)
    assert caught.value.__cause__.kind == CheckpointError.__name__
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
    assert isinstance(caught.value.__cause__, ChildError)
    assert caught.value.__cause__.kind == ConversionError.__name__
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
