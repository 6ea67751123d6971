"""Too little memory is told before a load, and after it as what it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import pytest_aprqa
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format, Quantization
from pytest_aprqa.engines import memory, portable_load, transformers_load
from pytest_aprqa.engines.engine import EngineCrashed
from pytest_aprqa.engines.llamacpp_engine import load_gguf
from pytest_aprqa.engines.memory import free_bytes, is_out_of_memory, require_memory
from pytest_aprqa.engines.portable_load import load_portable_file
from pytest_aprqa.engines.system_memory import available_bytes
from pytest_aprqa.engines.transformers_engine import load
from tests.conversion.files import tiny

EMBEDDED = Path(pytest_aprqa.__file__).parent / "models" / "aprqa-tiny"
GIB = 1024**3


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("cannot allocate"),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_running_out_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert EngineCrashed.from_exception(error).error.startswith("out of memory: ")


def test_other_errors_are_other_errors() -> None:
    assert not is_out_of_memory(RuntimeError("the memory of a goldfish"))
    error = EngineCrashed.from_exception(ValueError("x")).error
    assert error == "ValueError: x"


def places(directory: Path) -> tuple[Path, Path]:
    """Where this process's control group is told, and where groups are mounted."""
    return directory / "cgroup", directory / "groups"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """The machine's free memory, which the test may change."""
    room = [8 * GIB]
    told = lambda: SimpleNamespace(available=room[0])  # noqa: E731
    monkeypatch.setattr("psutil.virtual_memory", told)
    monkeypatch.setattr(memory, "available_bytes", lambda: available_bytes(*places(tmp_path)))
    return room


def test_what_fits_is_let_through(free: list[int]) -> None:
    assert free_bytes("cpu") == 8 * GIB
    require_memory(7 * GIB, "cpu", where="m")
    with pytest.raises(EngineUnavailable) as caught:
        require_memory(8 * GIB, "cpu", where="m")
    assert str(caught.value) == (
        "m: needs about 8.40 GiB, 8.00 GiB are free on cpu; "
        "free memory, use fewer workers (-n), or qualify a smaller quantization"
    )


def test_a_containers_limit_counts(free: list[int], tmp_path: Path) -> None:
    """How each kind of container says so is in the tests of `system_memory`."""
    own, group = places(tmp_path)
    own.write_text("0::/\n")
    group.mkdir()
    (group / "memory.max").write_text(f"{4 * GIB}\n")
    (group / "memory.current").write_text(f"{3 * GIB}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {GIB}\n")
    assert free_bytes("cpu") == 2 * GIB
    (group / "memory.current").write_text(f"{6 * GIB}\n")
    assert free_bytes("cpu") == 0
    (group / "memory.max").write_text("max\n")
    assert free_bytes("cpu") == 8 * GIB


def test_a_gpu_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def mem_get_info(device: str) -> tuple[int, int]:
        asked.append(device)
        return 3 * GIB, 8 * GIB

    monkeypatch.setattr("torch.cuda.mem_get_info", mem_get_info)
    with pytest.raises(EngineUnavailable, match=r"about 4\.20 GiB, 3\.00 GiB are free on cuda:1;"):
        require_memory(4 * GIB, "cuda:1", where="m")
    assert asked == ["cuda:1"]


def test_a_model_takes_what_its_dtype_takes(model_directory: Path) -> None:
    stored = transformers_load._bytes_in_memory(model_directory, None)
    assert 0.9 < stored / (model_directory / "model.safetensors").stat().st_size < 1
    assert transformers_load._bytes_in_memory(model_directory, "bfloat16") == stored
    assert transformers_load._bytes_in_memory(model_directory, "float32") == 2 * stored


def test_files_that_cannot_be_read_are_left_to_the_load(tmp_path: Path) -> None:
    assert transformers_load._bytes_in_memory(tmp_path, None) == 0


def test_a_directory_that_does_not_fit_is_not_read(
    free: list[int], model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free[0] = 1000
    monkeypatch.setattr(transformers_load, "read_tokenizer", _never)
    with pytest.raises(
        EngineUnavailable, match=r"needs about 0\.00 GiB, 0\.00 GiB are free on cpu"
    ):
        load(model_directory, backend=Backend.CPU, threads=1)


def test_a_quantized_file_takes_what_it_decodes_to(
    free: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_aprqa.conversion.reading import read_portable

    path = tmp_path / "m.gguf"
    convert(EMBEDDED, path, quantization=Quantization.Q4_K_M)
    needed = portable_load._bytes_in_memory(read_portable(path), "float32")
    parameters = 1_900_000
    assert 4 * parameters < needed < 5 * parameters
    assert needed > 3 * path.stat().st_size
    free[0] = needed
    monkeypatch.setattr(portable_load, "read_tokenizer", _never)
    with pytest.raises(EngineUnavailable, match=r"^m\.gguf: needs about 0\.01 GiB"):
        load_portable_file(path, Format.GGUF, backend=Backend.CPU)
    free[0] = path.stat().st_size // 2
    with pytest.raises(EngineUnavailable, match=r"m\.gguf: needs about .* are free on cpu"):
        load_gguf(path, threads=1)


def test_weights_that_change_their_type_are_there_twice() -> None:
    from pytest_aprqa.conversion.reading import read_portable

    model = read_portable(tiny())
    stored = sum(tensor.nbytes for tensor in model.tensors)
    own = portable_load.dtype_of(model)
    assert portable_load._bytes_in_memory(model, own) == stored
    other = "float32" if own != "float32" else "bfloat16"
    assert portable_load._bytes_in_memory(model, other) > 1.4 * stored


def test_the_embedded_model_is_not_refused() -> None:
    engine = load(EMBEDDED, backend=Backend.CPU, threads=1)
    assert engine.device == "cpu"


def _never(*_args: object, **_kwargs: object) -> None:
    raise AssertionError("the model was read")
