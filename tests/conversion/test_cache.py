"""Conversions kept by content: made once, never handed out damaged, provenance beside them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.conversion import cache, provenance
from pytest_aprqa.conversion.cache import convert_through_cache, converted, known_content
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.formats.atomic import UnwritableError
from tests.conversion.files import changed_directory, companions, names_in, stored, tiny, with_value

NAMES = {Format.GGUF: "m.gguf", Format.APR: "m.apr", Format.SAFETENSORS: "m"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From its call on any conversion is a failure."""

    def fail(*arguments: Any, **options: Any) -> None:
        pytest.fail("it was converted again")

    return lambda: monkeypatch.setattr(cache, "convert", fail)


def entries(place: Path) -> list[Path]:
    return sorted((place / "conversions").iterdir())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("format_", list(Format))
def test_the_second_time_no_work_is_done(place: Path, idle: Any, format_: Format) -> None:
    first = converted(tiny(), format_)
    idle()
    second = converted(tiny(), format_)
    assert (first.cached, second.cached) == (False, True)
    assert second.destination == first.destination
    assert first.destination.is_relative_to(place)
    assert (second.nbytes, second.format) == (first.nbytes, format_)
    assert len(entries(place)) == 1


@pytest.mark.parametrize("format_", list(Format))
def test_the_destination_is_what_the_cache_has(tmp_path: Path, idle: Any, format_: Format) -> None:
    path, again = tmp_path / NAMES[format_], tmp_path / f"2{NAMES[format_]}"
    first = convert_through_cache(tiny(), path)
    idle()
    second = convert_through_cache(tiny(), again)
    assert (first.cached, second.cached) == (False, True)
    assert (first.destination, second.destination) == (path, again)
    assert stored(again) == stored(path)
    assert converted(tiny(), format_).cached
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("format_", list(Format))
def test_what_is_in_the_way_is_told_before_any_work(
    tmp_path: Path, idle: Any, format_: Format
) -> None:
    idle()
    path = tmp_path / NAMES[format_]
    path.write_bytes(b"precious")
    for use_cache in (True, False):
        with pytest.raises(ConversionError) as caught:
            convert_through_cache(tiny(), path, use_cache=use_cache)
        assert str(caught.value) == f"{path}: exists already; expected a new name, or replace it"
    assert path.read_bytes() == b"precious"


def test_what_is_impossible_is_told_with_the_destination(tmp_path: Path, place: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        convert_through_cache(tiny(), tmp_path / "m.apr", quantization=Quantization.Q2_K)
    assert str(caught.value).startswith(f"{tmp_path}/m.apr: APR has no q2_k that all its readers")
    assert not place.exists()


@pytest.mark.parametrize("format_", list(Format))
def test_what_is_there_is_replaced_when_asked_for(tmp_path: Path, format_: Format) -> None:
    path = tmp_path / NAMES[format_]
    convert_through_cache(tiny(), path)
    other = changed_directory(tmp_path / "s", tensor=with_value("model.norm.weight", 0.5))
    convert_through_cache(other, path, replace=True)
    expected = converted(other, format_)
    assert expected.cached
    assert stored(path) == stored(expected.destination)
    sidecar = provenance.sidecar_of(path)
    assert json.loads(sidecar.read_text())["source"] == known_content(other)
    assert stored(converted(tiny(), format_).destination) != stored(path)


@pytest.mark.parametrize("format_", list(Format))
@pytest.mark.parametrize("damage", ["byte", "cut", "gone", "sidecar", "no sidecar", "no digests"])
def test_a_damaged_entry_is_made_again(format_: Format, damage: str) -> None:
    made = converted(tiny(), format_).destination
    expected = stored(made)
    file = made / "model.safetensors" if made.is_dir() else made
    sidecar = made.parent / "provenance.json"
    if damage == "byte":
        data = bytearray(file.read_bytes())
        data[-4000] ^= 1
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:20])
    elif damage == "gone":
        file.unlink()
    elif damage == "sidecar":
        sidecar.write_text("{")
    elif damage == "no sidecar":
        sidecar.unlink()
    else:
        sidecar.write_text(json.dumps({"result": {}}))
    again = converted(tiny(), format_)
    assert not again.cached
    assert stored(again.destination) == expected
    assert converted(tiny(), format_).cached


def test_what_differs_is_another_entry(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = changed_directory(tmp_path / "s", tensor=with_value("model.norm.weight", 0.5))
    settings = changed_directory(tmp_path / "c", config=lambda c: c.update(pad_token_id=1))
    asked = [
        (tiny(), Format.APR, None),
        (tiny(), Format.APR, Quantization.F16),
        (tiny(), Format.GGUF, None),
        (other, Format.APR, None),
        (settings, Format.APR, None),
    ]
    assert not any(converted(*each).cached for each in asked)
    assert len(entries(place)) == len(asked)
    assert all(converted(*each).cached for each in asked)
    monkeypatch.setattr(provenance, "RECIPE", provenance.RECIPE + 1)
    assert not converted(*asked[0]).cached
    monkeypatch.setattr(provenance, "version", lambda name: "99")
    assert not converted(*asked[0]).cached
    assert len(entries(place)) == len(asked) + 2


def test_the_same_bytes_elsewhere_are_the_same_source(tmp_path: Path, idle: Any) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny(), copy)
    (copy / "README.md").write_text("other words")
    converted(tiny(), Format.GGUF)
    idle()
    assert converted(copy, Format.GGUF).cached


def test_a_source_that_changes_in_place_is_another(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny(), copy)
    before = known_content(copy)
    config = copy / "config.json"
    config.write_text(config.read_text() + " ")
    after = known_content(copy)
    assert {name for name in before if before[name] != after[name]} == {"config.json"}
    assert after["config.json"] == digest(config)


def test_a_file_in_a_hub_cache_goes_by_its_own_name(tmp_path: Path) -> None:
    """There it is a link to a nameless one, beside which the parts of a split file are not."""
    made = converted(tiny(), Format.GGUF).destination
    blob, link = tmp_path / digest(made), tmp_path / "m.gguf"
    shutil.copyfile(made, blob)
    link.symlink_to(blob)
    assert known_content(link) == {"m.gguf": digest(made)}
    assert stored(converted(link, Format.SAFETENSORS).destination) == stored(tiny())


def test_a_config_that_is_edited_in_place_is_nobody_elses(tmp_path: Path, idle: Any) -> None:
    convert_through_cache(tiny(), tmp_path / "mine")
    convert_through_cache(tiny(), tmp_path / "yours")
    weights = [tmp_path / name / "model.safetensors" for name in ("mine", "yours")]
    assert weights[0].samefile(weights[1])
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert companions(tmp_path / "yours") == companions(tiny())
    idle()
    assert converted(tiny(), Format.SAFETENSORS).cached


def test_a_link_and_a_copy_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = converted(tiny(), Format.GGUF).destination
    convert_through_cache(tiny(), tmp_path / "linked.gguf")
    assert (tmp_path / "linked.gguf").samefile(made)

    def fail(*arguments: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    convert_through_cache(tiny(), tmp_path / "copied.gguf")
    convert_through_cache(tiny(), tmp_path / "copied")
    assert not (tmp_path / "copied.gguf").samefile(made)
    assert digest(tmp_path / "copied.gguf") == digest(made)
    assert stored(tmp_path / "copied") == stored(tiny())


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("name", ["m.gguf", "m.apr", "m"])
def test_the_sidecar_says_what_was_made_of_what(
    tmp_path: Path, place: Path, name: str, use_cache: bool
) -> None:
    path = tmp_path / name
    kind = Quantization.F16
    convert_through_cache(tiny(), path, quantization=kind, use_cache=use_cache)
    directory = path.is_dir()
    sidecar = path / "provenance.json" if directory else tmp_path / f"{name}.provenance.json"
    written = json.loads(sidecar.read_text("utf-8"))
    files = [*companions(tiny()), "model.safetensors"]
    assert written["source"] == {file: digest(tiny() / file) for file in files}
    digests = {file: digest(path / file) for file in files} if directory else {name: digest(path)}
    assert written["result"] == digests
    assert (written["schema"], written["recipe"]) == ("aprqa-provenance-1", 1)
    assert written["format"] == {"m.gguf": "gguf", "m.apr": "apr", "m": "safetensors"}[name]
    assert written["quantization"] == "f16"
    assert set(written["made_by"]) == {"pytest-aprqa", "gguf", "cyllama"}
    assert len(written) == 7
    assert place.exists() == use_cache


def test_a_name_like_the_caches_own_is_nothing_special(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    convert_through_cache(tiny(), tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf.provenance.json").is_file()
    assert not (tmp_path / "provenance.json").exists()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("APRQA_CACHE", str(tmp_path / "file"))
    with pytest.raises(UnwritableError) as caught:
        converted(tiny(), Format.GGUF)
    head, _, tail = str(caught.value).partition(": ")
    assert head.startswith(f"{tmp_path}/file/conversions/")
    assert tail == "cannot be written: Not a directory; APRQA_CACHE names another place"


def test_a_cache_whose_lock_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a directory that belongs to another user."""
    made = converted(tiny(), Format.GGUF).destination
    (made.parent / "lock").unlink()
    (made.parent / "lock").mkdir()
    with pytest.raises(UnwritableError) as caught:
        converted(tiny(), Format.GGUF)
    assert str(caught.value).startswith(f"{made.parent}: cannot be written: ")
    assert str(caught.value).endswith("; APRQA_CACHE names another place")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    monkeypatch.setenv("APRQA_CACHE", "~/there")
    assert cache.cache_directory() == Path("/somebody/there")
    monkeypatch.delenv("APRQA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/c")
    assert cache.cache_directory() == Path("/var/c/pytest-aprqa")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_directory() == Path("/somebody/.cache/pytest-aprqa")


_CONVERTER = """
import sys
from pathlib import Path
from pytest_aprqa.conversion.cache import converted
from pytest_aprqa.domain.model import Format
from pytest_aprqa.formats.hub import resolve_model

source = resolve_model("embedded/aprqa-tiny").directory
print("ready", flush=True)
sys.stdin.readline()
print(converted(source, Format.GGUF).cached)
"""


def test_two_processes_at_once_convert_once(place: Path) -> None:
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", _CONVERTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in pair:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in pair:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sorted(process.communicate(timeout=60)[0].strip() for process in pair)
    assert said == ["False", "True"]
    assert len(entries(place)) == 1
