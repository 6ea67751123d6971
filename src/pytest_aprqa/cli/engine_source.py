"""Load a model that a command line names, in the engine for its format."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_aprqa.cli.sources import model_path
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Backend, Format

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pytest_aprqa.engines.engine import Engine


def add_model(command: argparse.ArgumentParser) -> None:
    """The model, the backend, and the prompt."""
    command.add_argument(
        "model", metavar="MODEL", help="a Hugging Face directory, a .apr or .gguf file, or an id"
    )
    command.add_argument(
        "--backend",
        choices=[backend.value for backend in Backend],
        default=Backend.CPU.value,
        help="where it runs; cpu (the default) or gpu",
    )
    command.add_argument(
        "--prompt", default="What is 2+2?", metavar="TEXT", help="what it is asked; plain text"
    )
    command.add_argument("--json", action="store_true", help="write one JSON object")


@contextmanager
def loaded(chosen: argparse.Namespace) -> Iterator[tuple[Target, Engine]]:
    """The model, loaded in the block as a run would load it.

    Raises:
        AprqaError: it is not here, does not load, or this machine cannot run it.
    """
    from pytest_aprqa.engines.choice import load_engine
    from pytest_aprqa.engines.engine import EngineCrashed, LoadFailed

    path = model_path(chosen.model)
    suffix = path.suffix.lstrip(".")
    format_ = Format(suffix) if path.is_file() and suffix in ("apr", "gguf") else Format.SAFETENSORS
    target = Target(chosen.model, format_, None, Backend(chosen.backend))
    if path.is_file() and format_ is Format.SAFETENSORS:
        path = path.parent
    try:
        engine = load_engine(target, path)
        try:
            yield target, engine
        finally:
            engine.close()
    except (LoadFailed, EngineCrashed) as error:
        raise AprqaError(str(error)) from error
