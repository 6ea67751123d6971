"""Each whole model, converted once for a module of tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_aprqa.conversion.convert import convert
from tests.conversion.whole.models import WHOLES, Whole, make


@dataclass(frozen=True)
class Made:
    """A model in three formats, none of which knows where the others are."""

    whole: Whole
    directory: Path
    gguf: Path
    apr: Path


def made_of(whole: Whole, place: Path) -> Made:
    """The files are converted from a directory that is then taken away."""
    source = place / "source"
    make(whole, source)
    convert(source, place / "m.gguf")
    convert(source, place / "m.apr")
    shutil.copytree(source, place / "directory")
    shutil.rmtree(source)
    return Made(whole, place / "directory", place / "m.gguf", place / "m.apr")


@pytest.fixture(scope="module", params=WHOLES, ids=lambda whole: whole.name)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_of(request.param, tmp_path_factory.mktemp("whole"))
