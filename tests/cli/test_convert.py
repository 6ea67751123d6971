from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.conversion import cache
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.model import Format, Quantization
from tests.cli.conftest import Run

TINY = "embedded/aprqa-tiny"


def refused(run: Run, *arguments: str | Path) -> str:
    """What is told when nothing is converted."""
    ran = run("convert", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    return ran.err.removeprefix("aprqa: ").removesuffix("\n")


@pytest.mark.parametrize("name", ["model.gguf", "model.apr", "model"])
def test_what_is_there_is_not_replaced_unasked(run: Run, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"precious")
    assert refused(run, TINY, path) == (f"{path}: it exists already; give --replace to replace it")
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".PT"])
def test_a_single_file_of_safetensors_is_not_offered(run: Run, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    assert refused(run, TINY, path) == (
        f"{path}: safetensors are written as a directory with config and tokenizer; expected a "
        f"name without {suffix}, or one that ends in .gguf or .apr"
    )


def test_the_suffix_is_in_lower_case(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.GGUF"
    assert refused(run, TINY, path) == f"{path}: expected .gguf in lower case"


def test_the_directory_must_be_there(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "none" / "model.gguf"
    assert refused(run, TINY, path) == (
        f"{path}: there is no directory {tmp_path}/none; make it first"
    )


def test_source_and_destination_are_two_places(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    assert refused(run, path, path, "--replace") == (
        f"{path}: source and destination are the same; expected two places"
    )


def test_a_source_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    told = refused(run, tmp_path / "none.gguf", tmp_path / "model.apr")
    assert told.startswith(f"{tmp_path}/none.gguf: there is no such file or directory;")


@dataclass(frozen=True)
class Made:
    """What a conversion gives back, of the fields that are shown."""

    source: Path
    destination: Path
    format: Format
    quantization: Quantization | None
    cached: bool
    seconds: float
    nbytes: int
    remarks: tuple[str, ...] = ()


class Converter:
    """Stands for the conversion: remembers what it was asked, and reports progress."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.cached = False
        self.error: BaseException | None = None

    def convert(self, source: Path, destination: Path, **options: Any) -> Made:
        self.calls.append({"source": source, "destination": destination, **options})
        options["progress"]("w", 5_000_000, 10_000_000)
        if self.error is not None:
            raise self.error
        kind = options["quantization"]
        return Made(source, destination, Format.GGUF, kind, self.cached, 4.0, 10_000_000)


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    """The conversion, replaced."""
    found = Converter()
    monkeypatch.setattr(cache, "convert_through_cache", found.convert)
    return found


def test_what_was_asked_reaches_the_conversion(
    run: Run, converter: Converter, tiny: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.gguf"
    assert run("convert", TINY, path).status == 0
    path.write_bytes(b"")
    assert run("convert", TINY, path, "-q", "Q4_K_M", "--replace").status == 0
    first, second = converter.calls
    for call in (first, second):
        assert (call["source"], call["destination"]) == (tiny, path)
        assert callable(call["progress"])
    assert (first["quantization"], first["replace"]) == (None, False)
    assert (second["quantization"], second["replace"]) == (Quantization.Q4_K_M, True)
    assert [call["use_cache"] for call in converter.calls] == [True, True]
    assert run("convert", TINY, path, "--replace", "--no-cache").status == 0
    assert converter.calls[2]["use_cache"] is False


def test_what_was_made_is_told_in_one_line(run: Run, converter: Converter, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    ran = run("convert", TINY, path, "-q", "q8_0")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"{path}: gguf q8_0, 10 MB, in 4.0 s (2.5 MB/s)\n"
    converter.cached = True
    assert run("convert", TINY, path).out == f"{path}: gguf, 10 MB, from the cache\n"


def test_json_tells_what_was_made(
    run: Run, converter: Converter, tiny: Path, tmp_path: Path
) -> None:
    ran = run("convert", TINY, tmp_path / "m.gguf", "--json")
    assert ran.json == {
        "source": str(tiny),
        "destination": str(tmp_path / "m.gguf"),
        "format": "gguf",
        "quantization": None,
        "cached": False,
        "seconds": 4.0,
        "bytes": 10_000_000,
        "remarks": [],
    }


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ConversionError("model_type is 'x'"), 2, "aprqa: model_type is 'x'\n"),
        (KeyboardInterrupt(), 130, "aprqa: interrupted\n"),
    ],
)
def test_a_conversion_that_fails_is_told(
    run: Run, converter: Converter, tmp_path: Path, error: BaseException, status: int, told: str
) -> None:
    converter.error = error
    ran = run("convert", TINY, tmp_path / "m.gguf")
    assert (ran.status, ran.out, ran.err) == (status, "", told)


@pytest.mark.parametrize("name", ["m.gguf", "m.apr", "m"])
def test_a_model_is_converted(run: Run, tmp_path: Path, own_cache: Path, name: str) -> None:
    path = tmp_path / name
    first = run("convert", TINY, path, "-q", "f16")
    assert (first.status, first.err) == (0, "")
    format_ = {"m.gguf": "gguf", "m.apr": "apr", "m": "safetensors"}[name]
    assert first.out.startswith(f"{path}: {format_} f16, ")
    assert " s (" in first.out
    assert len(list((own_cache / "conversions").iterdir())) == 1
    again = run("convert", TINY, path, "-q", "f16", "--replace")
    assert (again.status, again.err) == (0, "")
    assert again.out.startswith(f"{path}: {format_} f16, ")
    assert again.out.endswith(", from the cache\n")


def test_json_tells_of_a_real_conversion(run: Run, tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.apr"
    found = run("convert", TINY, path, "--quantization", "Q8_0", "--json").json
    size = path.stat().st_size
    seconds = found.pop("seconds")
    assert 0 < seconds < 60
    assert found == {
        "source": str(tiny),
        "destination": str(path),
        "format": "apr",
        "quantization": "q8_0",
        "cached": False,
        "bytes": size,
        "remarks": [],
    }
    assert run("convert", TINY, path, "-q", "q8_0", "--json", "--replace").json["cached"] is True


def test_without_the_cache_nothing_is_kept_there(run: Run, tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "m.gguf"
    assert run("convert", TINY, path, "--no-cache").status == 0
    assert not own_cache.exists()
    sidecar = json.loads((tmp_path / "m.gguf.provenance.json").read_bytes())
    assert sidecar["result"] == {"m.gguf": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert run("convert", TINY, path, "--no-cache", "--replace", "--json").json["cached"] is False
    assert run("convert", TINY, tmp_path / "2.gguf").status == 0
    assert (tmp_path / "2.gguf").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("m.apr", "q5_k_m", "APR has no q5_k_m that all its readers understand; expected "),
        ("m", "q4_k_m", "safetensors hold no q4_k_m; expected one of f32, f16, bf16, "),
    ],
)
def test_a_refusal_is_told(
    run: Run, tmp_path: Path, own_cache: Path, name: str, kind: str, told: str
) -> None:
    assert refused(run, TINY, tmp_path / name, "-q", kind).startswith(f"{tmp_path}/{name}: {told}")
    assert list(tmp_path.iterdir()) == []


def test_replacing_takes_no_other_directory_away(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters.txt").touch()
    assert refused(run, TINY, home, "--replace") == (
        f"{home}: holds files but no config.json; expected a model's directory to replace, "
        "or a new name"
    )
    assert (home / "letters.txt").exists()
