"""The tensors that two formats are compared by: under Hugging Face's names, or as stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from pytest_aprqa.formats.tensor import Tensor


def add_raw(command: argparse.ArgumentParser) -> None:
    """The option that chooses between the two."""
    command.add_argument(
        "--raw",
        action="store_true",
        help="take names, layout and values as the file stores them; without it, every format is "
        "read as Hugging Face has it (names, row order of attention, norm offsets), so that "
        "formats can be compared with each other",
    )


def tensors_at(path: Path, *, raw: bool) -> tuple[Tensor, ...]:
    """The tensors of a model; a lone safetensors file has no config and is taken as stored.

    Raises:
        AprqaError: when the model cannot be read, or its family is not known.
    """
    from pytest_aprqa.domain.model import Format
    from pytest_aprqa.formats.opening import format_of, open_checkpoint
    from pytest_aprqa.formats.tensor import tensors_of

    if raw or (path.is_file() and format_of(path) is Format.SAFETENSORS):
        return tensors_of(open_checkpoint(path))
    from pytest_aprqa.conversion.reading import read_portable

    return read_portable(path).tensors
