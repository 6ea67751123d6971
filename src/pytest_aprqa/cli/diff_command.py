"""`aprqa diff`: where do two models' tensors differ?"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.progress import ProgressLine
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.cli.sources import ACCEPTED, model_path
from pytest_aprqa.cli.tensor_source import add_raw, tensors_at
from pytest_aprqa.domain.model import Quantization

if TYPE_CHECKING:
    from pytest_aprqa.checks.tensor_diff import TensorDiff, TensorResult

NAME = "diff"
HELP = "compare two models tensor by tensor"
DESCRIPTION = """\
Compare the values of two models, tensor by tensor, in any two formats. A is the reference: a
value passes when |a - b| <= tolerance. A tensor is identical (the same bytes), equal (the same
values in other bytes), within tolerance, transposed, or it differs; or its shape differs, or one
side lacks it. A NaN equals a NaN in the same place, and nothing else.
"""
EXAMPLES = """\
examples:
  aprqa diff ./checkpoint model.gguf                    equal values, or status 1
  aprqa diff ./checkpoint model-q8.gguf --tolerance 0.02
  aprqa diff old.gguf new.gguf --raw --json
  aprqa diff ./checkpoint model-q8.gguf --explain q8_0  what became of each tensor
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa diff`."""
    command.add_argument("a", metavar="A", help=f"the reference: {ACCEPTED}")
    command.add_argument("b", metavar="B", help="what is compared with it, likewise")
    command.add_argument(
        "--tolerance",
        type=tolerance_argument,
        default=0.0,
        metavar="ATOL",
        help="largest |a - b| that passes; 0 (the default) lets only equal values pass",
    )
    command.add_argument(
        "--explain",
        metavar="QUANTIZATION",
        choices=("none", *Quantization),
        help="tell what became of each tensor of B beyond what this quantization costs (none: "
        "nothing): transposed, permuted, scaled, another tensor's values, damaged in part, …",
    )
    add_raw(command)
    command.add_argument("--json", action="store_true", help="write one JSON object")


def tolerance_argument(text: str) -> float:
    """A finite number of at least 0; argparse tells the user when it is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of at least 0 such as 1e-3")
    return value


def run(chosen: argparse.Namespace) -> Exit:
    """Print what differs; status 1 when something does."""
    if chosen.explain is not None:
        return _explain(chosen)
    from pytest_aprqa.checks.tensor_diff import diff_tensors
    from pytest_aprqa.domain.tolerance import Tolerance

    a, b = (tensors_at(model_path(named), raw=chosen.raw) for named in (chosen.a, chosen.b))
    with ProgressLine(bytes_counted=False) as progress:
        found = diff_tensors(
            a, b, tolerance=Tolerance(atol=chosen.tolerance, rtol=0.0), progress=progress
        )
    if chosen.json:
        write_json(_as_json(chosen, found))
    else:
        _show(Screen(), found)
    return Exit.FINE if found.passed else Exit.WRONG


def _explain(chosen: argparse.Namespace) -> Exit:
    """What most likely happened to each tensor that is not its original."""
    from pytest_aprqa.checks.gates.conversion.tensors import diagnose_files

    kind = None if chosen.explain == "none" else Quantization(chosen.explain)
    found = diagnose_files(model_path(chosen.a), model_path(chosen.b), kind)
    if chosen.json:
        told = [{"tensor": d.name, "defect": d.defect, "told": d.told} for d in found]
        write_json({"a": chosen.a, "b": chosen.b, "passed": not found, "defects": told})
    else:
        screen = Screen()
        for diagnosis in found:
            screen.line(diagnosis.told, style="red")
        beyond = "" if kind is None else f" beyond what {kind} costs"
        screen.line(f"{len(found)} tensors are not their originals{beyond}", style="bold")
    return Exit.WRONG if found else Exit.FINE


def _show(screen: Screen, found: TensorDiff) -> None:
    for result in found.results:
        if not result.passed:
            screen.line(result.told(), style="red")
    worst = found.worst
    if worst is not None and worst.sizes is not None and worst.sizes.nmse > 0:
        sizes = worst.sizes
        screen.line(
            f"largest NMSE {sizes.nmse:.3g} in {worst.name} (largest error {sizes.max_abs:.3g}, "
            f"RMSE {sizes.rmse:.3g}, cosine {sizes.cosine:.9g})"
        )
    screen.line(found.summary(), style="green" if found.passed else "bold")


def _as_json(chosen: argparse.Namespace, found: TensorDiff) -> dict[str, Any]:
    first = found.first_difference
    return {
        "a": chosen.a,
        "b": chosen.b,
        "raw": chosen.raw,
        "tolerance": {"atol": chosen.tolerance, "rtol": 0.0},
        "passed": found.passed,
        "summary": found.summary(),
        "first_difference": first.name if first else None,
        "tensors": [_result(result) for result in found.results],
    }


def _result(result: TensorResult) -> dict[str, Any]:
    sizes, first = result.sizes, result.first
    return {
        "name": result.name,
        "outcome": result.outcome.value,
        "passed": result.passed,
        "encodings": [result.encoding_a, result.encoding_b],
        "shapes": [result.shape_a, result.shape_b],
        "errors": None
        if sizes is None
        else {
            "max_abs": sizes.max_abs,
            "rmse": sizes.rmse,
            "nmse": sizes.nmse,
            "cosine": sizes.cosine,
        },
        "first_difference": None
        if first is None
        else {
            "index": first.index,
            # Texts, as JSON has neither NaN nor infinity.
            "a": repr(first.value_a),
            "b": repr(first.value_b),
            "count": first.count,
            "of": first.of,
        },
    }
