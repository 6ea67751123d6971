"""`aprqa convert`: a model in another format, or with its weights quantized."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.progress import ProgressLine
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.cli.sizes import told_bytes, told_rate
from pytest_aprqa.cli.sources import ACCEPTED, model_path
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Quantization

if TYPE_CHECKING:
    import argparse

NAME = "convert"
HELP = "write a model in another format, or quantized"
DESCRIPTION = """\
Write a model as safetensors, GGUF or APR. The name of DST decides: a name that ends in .gguf or
.apr is such a file, any other a Hugging Face directory with safetensors. Config, tokenizer and
chat template travel along. The result appears under its name when it is complete, or not at all.
"""
EXAMPLES = """\
examples:
  aprqa convert ./checkpoint model.gguf --quantization q4_k_m
  aprqa convert model.gguf model.apr
  aprqa convert model.apr ./checkpoint-again --replace
"""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa convert`."""
    command.add_argument("source", metavar="SRC", help=ACCEPTED)
    command.add_argument("destination", metavar="DST", type=Path, help="the file or directory")
    command.add_argument(
        "--quantization",
        "-q",
        type=str.lower,
        choices=[kind.value for kind in Quantization],
        metavar="KIND",
        help=f"how weights are encoded: {', '.join(Quantization)}; "
        "without it they stay as they are where the format can hold them",
    )
    command.add_argument("--replace", action="store_true", help="replace DST when it exists")
    command.add_argument(
        "--no-cache",
        action="store_true",
        help="neither look for the conversion among those made before nor keep it there "
        "($APRQA_CACHE, else ~/.cache/pytest-aprqa)",
    )
    command.add_argument("--json", action="store_true", help="write one JSON object at the end")


def run(chosen: argparse.Namespace) -> Exit:
    """Convert, and say in one line what was made."""
    destination = _checked(chosen.destination.expanduser(), replace=chosen.replace)
    source = model_path(chosen.source)
    if source.resolve() == destination.resolve():
        raise AprqaError(f"{destination}: source and destination are the same; expected two places")
    from pytest_aprqa.conversion.cache import convert_through_cache

    with ProgressLine(bytes_counted=True) as progress:
        made = convert_through_cache(
            source,
            destination,
            quantization=Quantization(chosen.quantization) if chosen.quantization else None,
            replace=chosen.replace,
            use_cache=not chosen.no_cache,
            progress=progress,
        )
    kind = None if made.quantization is None else made.quantization.value
    if chosen.json:
        write_json(
            {
                "source": str(made.source),
                "destination": str(made.destination),
                "format": made.format.value,
                "quantization": kind,
                "cached": made.cached,
                "seconds": made.seconds,
                "bytes": made.nbytes,
                "remarks": list(made.remarks),
            }
        )
        return Exit.FINE
    how = "from the cache" if made.cached else f"in {made.seconds:.1f} s"
    rate = "" if made.cached else told_rate(made.nbytes, made.seconds)
    Screen().line(
        f"{made.destination}: {made.format.value}{f' {kind}' if kind else ''}, "
        f"{told_bytes(made.nbytes)}, {how}{f' ({rate})' if rate else ''}",
        style="green",
    )
    for remark in made.remarks:
        Screen().line(f"note: {remark}", style="bold")
    return Exit.FINE


def _checked(destination: Path, *, replace: bool) -> Path:
    """A destination that may be written to, as far as can be told before any work is done."""
    if destination.suffix.lower() in _WEIGHTS:
        raise AprqaError(
            f"{destination}: safetensors are written as a directory with config and tokenizer; "
            f"expected a name without {destination.suffix}, or one that ends in .gguf or .apr"
        )
    if destination.suffix != destination.suffix.lower() and destination.suffix.lower() in (
        ".gguf",
        ".apr",
    ):
        raise AprqaError(f"{destination}: expected {destination.suffix.lower()} in lower case")
    if destination.exists() and not replace:
        raise AprqaError(f"{destination}: it exists already; give --replace to replace it")
    if not destination.absolute().parent.is_dir():
        raise AprqaError(
            f"{destination}: there is no directory {destination.absolute().parent}; make it first"
        )
    return destination
