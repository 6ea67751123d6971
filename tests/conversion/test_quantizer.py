"""llama.cpp's quantizer in a child: the bytes that others get from it, and clear refusals."""

from __future__ import annotations

import hashlib
import mmap
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pytest_aprqa.conversion import quantizer
from pytest_aprqa.conversion.child_process import ChildProcess
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.quantizer import FILE_TYPES, quantize_gguf
from pytest_aprqa.conversion.quantizer_child import _give_pages_back
from pytest_aprqa.domain.model import Quantization
from tests.conversion.gguf_source import write_source

GOLDEN = {
    Quantization.F32: "ab0808a82e4e82b46401b19d89df3f80",
    Quantization.F16: "10a5b191ef2222c61c4714a82ceb0072",
    Quantization.BF16: "7b234547378dd6f9d6adb1f11e5e1de0",
    Quantization.Q8_0: "cd69349ec62c0e1a15a5d63b2e5c53cc",
    Quantization.Q6_K: "1c5c6dd18b9cda69762038d7ea56bfd9",
    Quantization.Q5_K_M: "97c4d03fd7277702477349fdc592610d",
    Quantization.Q5_0: "c9a3e1a1d270032939de0fa251dfe143",
    Quantization.Q4_K_M: "6818ce406cb87ba882bdfd35fa0e21c4",
    Quantization.Q4_0: "4b1916c0d6b1f4dee036ef5b9f248f16",
    Quantization.Q3_K_M: "464bbb0dfd0baa150783457ec5df55d6",
    Quantization.Q2_K: "e455cdac17c18909a1bedb080684a2bd",
}
"""Digests of the tensors that llama_model_quantize of llama-cpp-python 0.3.36 makes of the source:
another build of llama.cpp than the one the product calls. See `_digest`."""
# How far the decoded values are from the source, as a part of its power: what bits allow.
LOSS = {
    **dict.fromkeys((Quantization.F32, Quantization.F16), (0.0, 0.0)),
    Quantization.BF16: (1e-7, 1e-5),
    Quantization.Q8_0: (1e-6, 1e-4),
    Quantization.Q6_K: (1e-5, 1e-3),
    Quantization.Q5_K_M: (1e-4, 4e-3),
    Quantization.Q5_0: (1e-4, 4e-3),
    Quantization.Q4_K_M: (1e-3, 1e-2),
    Quantization.Q4_0: (1e-3, 2e-2),
    Quantization.Q3_K_M: (3e-3, 4e-2),
    Quantization.Q2_K: (1e-2, 2e-1),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source") / "source-f16.gguf")


def _tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def _digest(path: Path) -> str:
    """Half a SHA-256 over each tensor's name, type, size and bytes, in the order of names."""
    state = hashlib.sha256()
    for name, tensor in sorted(_tensors(path).items()):
        state.update(f"{name} {tensor.tensor_type.name} {tensor.data.nbytes}\n".encode())
        state.update(tensor.data.tobytes())
    return state.hexdigest()[:32]


def _loss(path: Path, source: Path) -> float:
    """Squared error over power, of the weights of all matrices together."""
    error = power = 0.0
    found = _tensors(path)
    for name, tensor in _tensors(source).items():
        if len(tensor.shape) > 1:
            expected = tensor.data.astype(np.float64)
            other = found[name]
            values = gguf.quants.dequantize(other.data, other.tensor_type).astype(np.float64)
            error += float(((values - expected) ** 2).sum())
            power += float((expected**2).sum())
    return error / power


def test_the_source_is_what_the_digests_were_made_of(source: Path) -> None:
    assert _digest(source) == GOLDEN[Quantization.F16]


@pytest.mark.parametrize("quantization", list(Quantization))
def test_tensors_are_byte_for_byte_those_of_llama_cpp(
    source: Path, tmp_path: Path, quantization: Quantization
) -> None:
    made = tmp_path / "made.gguf"
    quantize_gguf(source, made, quantization, threads=1)
    assert _digest(made) == GOLDEN[quantization]
    reader = gguf.GGUFReader(made)
    field = reader.get_field("general.file_type")
    assert field is not None
    assert field.contents() == FILE_TYPES[quantization]
    least, most = LOSS[quantization]
    assert least <= _loss(made, source) <= most


def test_file_types_are_those_of_the_specification() -> None:
    names = {
        quantization: "ALL_F32"
        if quantization is Quantization.F32
        else f"MOSTLY_{quantization.upper()}"
        for quantization in Quantization
    }
    assert {q: gguf.LlamaFileType(number).name for q, number in FILE_TYPES.items()} == names


def test_the_number_of_threads_changes_nothing(source: Path, tmp_path: Path) -> None:
    made = tmp_path / "made.gguf"
    quantize_gguf(source, made, Quantization.Q4_K_M)
    assert _digest(made) == GOLDEN[Quantization.Q4_K_M]


def test_a_quantized_source_is_refused_unless_asked_for(source: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "q8_0.gguf", tmp_path / "twice.gguf"
    quantize_gguf(source, once, Quantization.Q8_0, threads=1)
    with pytest.raises(ConversionError) as caught:
        quantize_gguf(once, twice, Quantization.Q4_0, threads=1)
    assert str(caught.value).startswith(
        f"{once}: it is quantized already, and q4_0 of it would lose twice; "
        "quantize from the unquantized file (llama_model_quantize: "
    )
    assert not twice.exists()
    quantize_gguf(once, twice, Quantization.Q4_0, threads=1, requantize=True)
    assert Counter(t.tensor_type.name for t in _tensors(twice).values())["Q4_0"] == 15
    assert _digest(twice) != GOLDEN[Quantization.Q4_0]


@pytest.mark.parametrize("kept", [30, 2000, 1_000_000])
def test_a_truncated_source(source: Path, tmp_path: Path, kept: int) -> None:
    cut, made = tmp_path / "cut.gguf", tmp_path / "made.gguf"
    cut.write_bytes(source.read_bytes()[:kept])
    with pytest.raises(ConversionError) as caught:
        quantize_gguf(cut, made, Quantization.Q4_0, threads=1)
    assert str(caught.value).startswith(f"{cut}: llama.cpp does not quantize it to q4_0: ")
    assert "\n" not in str(caught.value)
    assert not made.exists()


def test_a_source_that_is_no_gguf(tmp_path: Path) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("once upon a time")
    with pytest.raises(ConversionError, match=r"text\.gguf: llama\.cpp does not .*invalid magic"):
        quantize_gguf(text, tmp_path / "made.gguf", Quantization.Q4_0, threads=1)


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"nosuch: the file does not exist; expected a GGUF"):
        quantize_gguf(tmp_path / "nosuch", tmp_path / "made.gguf", Quantization.Q4_0)


def test_the_source_is_never_the_destination(source: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(source)
    with pytest.raises(ConversionError, match=r"it is the source itself; expected another file"):
        quantize_gguf(source, link, Quantization.Q4_0)
    assert _digest(source) == GOLDEN[Quantization.F16]


def test_a_destination_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"does not quantize it to q4_0: .*failed"):
        quantize_gguf(source, tmp_path / "nosuch" / "made.gguf", Quantization.Q4_0, threads=1)


@pytest.fixture
def amid(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Disturbs the wait for the child, which has by then written a part of the file."""

    def arm(draft: Path, disturb: Any) -> None:
        receive = ChildProcess.receive

        def disturbed(child: ChildProcess, timeout_s: float | None) -> Any:
            draft.write_bytes(b"a part")
            disturb(child)
            return receive(child, timeout_s)

        monkeypatch.setattr(ChildProcess, "receive", disturbed)

    return arm


def test_a_child_that_is_killed_leaves_no_part(source: Path, tmp_path: Path, amid: Any) -> None:
    made = tmp_path / "made.gguf"
    amid(made, lambda child: os.kill(child.pid, signal.SIGKILL))
    with pytest.raises(ConversionError) as caught:
        quantize_gguf(source, made, Quantization.Q4_0, threads=1)
    assert str(caught.value) == (
        f"{source}: llama.cpp's quantizer died of SIGKILL while it made it q4_0"
    )
    assert not made.exists()


def test_an_interrupt_leaves_neither_child_nor_part(
    source: Path, tmp_path: Path, amid: Any
) -> None:
    made = tmp_path / "made.gguf"
    seen: list[int] = []

    def interrupt(child: ChildProcess) -> None:
        seen.append(child.pid)
        raise KeyboardInterrupt

    amid(made, interrupt)
    with pytest.raises(KeyboardInterrupt):
        quantize_gguf(source, made, Quantization.Q4_0, threads=1)
    assert not made.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


def test_a_child_that_cannot_start_is_told_with_what_it_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "MODULE", "pytest_aprqa.nosuch")
    with pytest.raises(ConversionError, match=r"ended with status 1 while .*: .*No module named"):
        quantize_gguf(source, tmp_path / "made.gguf", Quantization.Q4_0, threads=1)


def test_bindings_that_are_missing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cyllama").mkdir()
    (tmp_path / "cyllama" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConversionError, match=r"bindings are missing: .*; install cyllama"):
        quantize_gguf(source, tmp_path / "made.gguf", Quantization.Q4_0, threads=1)


def test_nothing_is_printed(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quantize_gguf(source, tmp_path / "made.gguf", Quantization.Q2_K, threads=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system tells no map's size")
def test_pages_of_the_source_that_were_read_are_given_back(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(1 << 22))
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as map_:
        assert sum(map_[:: mmap.PAGESIZE]) == 0
        assert _resident_kb(path) == 4096
        _give_pages_back(str(tmp_path / "another"))
        assert _resident_kb(path) == 4096
        _give_pages_back(str(path))
        assert _resident_kb(path) == 0
        assert map_[-1] == 0  # and can be read again


def _resident_kb(path: Path) -> int:
    """Kilobytes of a mapped file that are in this process's memory."""
    entry = Path("/proc/self/smaps").read_text(encoding="utf-8").split(str(path.resolve()), 1)[1]
    return int(entry.split("Rss:", 1)[1].split()[0])
