from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_aprqa.cli.sources import ACCEPTED, model_path
from pytest_aprqa.domain.errors import ModelUnavailable

COMMIT = "a" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def snapshot(cache: Path, *names: str) -> Path:
    """A model `org/name` in the cache with these files."""
    repository = cache / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    directory = repository / "snapshots" / COMMIT
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text(json.dumps({}))
    return directory


def refused(named: str) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        model_path(named)
    return str(caught.value)


def test_what_exists_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"")
    assert model_path(str(file)) == file
    assert model_path(str(tmp_path)) == tmp_path


def test_the_embedded_model_is_found(cache: Path) -> None:
    assert (model_path("embedded/aprqa-tiny") / "config.json").is_file()
    assert "embedded/aprqa-large: no such embedded model" in refused("embedded/aprqa-large")


def test_a_model_in_the_cache_is_found(cache: Path) -> None:
    directory = snapshot(cache, "config.json", "tokenizer.json", "model.safetensors")
    assert model_path("org/name") == directory


def test_a_directory_goes_before_the_cache(cache: Path) -> None:
    snapshot(cache, "config.json", "tokenizer.json", "model.safetensors")
    Path("org/name").mkdir(parents=True)
    assert model_path("org/name") == Path("org/name")


def test_an_incomplete_model_in_the_cache_is_told(cache: Path) -> None:
    directory = snapshot(cache, "config.json", "tokenizer.json")
    assert refused("org/name") == (
        f"org/name: {directory} lacks model.safetensors; `hf download org/name` completes it"
    )


def test_a_model_that_is_nowhere_is_told(cache: Path) -> None:
    assert refused("org/name") == (
        f"org/name: there is no such file or directory, and no model of that id in {cache}; "
        f"`hf download org/name` would fetch one"
    )


@pytest.mark.parametrize("named", ["model.gguf", "./name", "/none/such", "a/b/c", "m.apr"])
def test_what_can_only_be_a_path_is_told_as_one(cache: Path, named: str) -> None:
    assert refused(named) == f"{named}: there is no such file or directory; expected {ACCEPTED}"
