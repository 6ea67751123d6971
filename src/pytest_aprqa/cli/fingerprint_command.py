"""`aprqa fingerprint`: numbers that tell one model's weights from another's."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.progress import ProgressLine
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.cli.sources import ACCEPTED, model_path
from pytest_aprqa.cli.tensor_source import add_raw, tensors_at

if TYPE_CHECKING:
    import argparse

    from pytest_aprqa.checks.fingerprint import TensorFingerprint

NAME = "fingerprint"
HELP = "digests and statistics of every tensor, and one digest of all values"
DESCRIPTION = """\
For each tensor: encoding, shape, SHA-256 of its bytes, mean, standard deviation, smallest and
largest value, share of zeros. For the model: one content digest, which is the same for the same
values in safetensors, APR and GGUF, whatever their encodings: SHA-256 over the float32 values of
the tensors in the order of their names (NaN and -0 made alike). The table shows the first 12 digits
of each tensor's digest; --json gives them all, and each tensor's content digest.
"""
EXAMPLES = """\
examples:
  aprqa fingerprint ./checkpoint
  aprqa fingerprint model.gguf --json | jq -r .content
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa fingerprint`."""
    command.add_argument("model", metavar="FILE", help=ACCEPTED)
    add_raw(command)
    command.add_argument("--json", action="store_true", help="write one JSON object")


def run(chosen: argparse.Namespace) -> Exit:
    """Print the fingerprint."""
    from pytest_aprqa.checks.fingerprint import fingerprint_tensors

    tensors = tensors_at(model_path(chosen.model), raw=chosen.raw)
    with ProgressLine(bytes_counted=False) as progress:
        found = fingerprint_tensors(tensors, progress=progress)
    if chosen.json:
        members = [asdict(tensor) for tensor in found.tensors]
        write_json(
            {
                "model": chosen.model,
                "raw": chosen.raw,
                "scheme": found.scheme,
                "content": found.content,
                "tensors": members,
            }
        )
        return Exit.FINE
    screen = Screen()
    columns = ["tensor", "encoding", "shape", "sha256", "mean", "std", "min", "max", "zeros"]
    screen.table(columns, [_row(tensor) for tensor in found.tensors], right=columns[4:])
    screen.line(f"content {found.content} ({found.scheme}, {len(found.tensors)} tensors)")
    return Exit.FINE


def _row(tensor: TensorFingerprint) -> list[str]:
    numbers = (tensor.mean, tensor.std, tensor.minimum, tensor.maximum)
    marked = f" and {tensor.not_finite} not finite" if tensor.not_finite else ""
    return [
        tensor.name,
        tensor.encoding,
        "x".join(map(str, tensor.shape)),
        tensor.sha256[:12],
        *("-" if number is None else f"{number:.4g}" for number in numbers),
        f"{100 * tensor.zeros:.3g} %{marked}",
    ]
