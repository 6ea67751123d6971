"""Measure what each quantization costs the embedded model, and write the table into the docs.

Every quantization is made by `convert` and run by its format's engine, as exactly as that can. Its
logits over a fixed set of texts are compared with those of the float32 model, its matrices with
the published ones, its greedy answers with the float32 model's.

    python tools/measure_quantizations.py                  # writes docs/conversion.md
    python tools/measure_quantizations.py --beside PYTHON  # compares with llama-cpp-python's

PYTHON is the interpreter of an environment that has llama-cpp-python.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import pytest_aprqa
from pytest_aprqa.checks.conversion_rungs import kl_divergence
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.impossible import why_impossible
from pytest_aprqa.conversion.quantizer import FILE_TYPES
from pytest_aprqa.conversion.reading import read_portable
from pytest_aprqa.conversion.writing import PLAIN
from pytest_aprqa.domain.completion import GenerationRequest, Message
from pytest_aprqa.domain.model import Format, Modality, Quantization
from pytest_aprqa.engines.choice import load_exact
from pytest_aprqa.engines.engine import Engine
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.opening import open_checkpoint
from pytest_aprqa.formats.playbook_yaml import read_playbook
from pytest_aprqa.strategies.prompts import generate_scenarios

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "conversion.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
MODEL = Path(pytest_aprqa.__file__).parent / "models" / "aprqa-tiny"
PLAYBOOK = ROOT / "playbooks" / "embedded.playbook.yaml"
GENERATED = 60
MAX_TOKENS = 64
LADDER = (
    Quantization.F32,
    Quantization.F16,
    Quantization.BF16,
    Quantization.Q8_0,
    Quantization.Q6_K,
    Quantization.Q5_K_M,
    Quantization.Q5_0,
    Quantization.Q4_K_M,
    Quantization.Q4_0,
    Quantization.Q3_K_M,
    Quantization.Q2_K,
)
QUANTIZE = """
import ctypes, sys, llama_cpp
settings = llama_cpp.llama_model_quantize_default_params()
settings.ftype = int(sys.argv[3])
code = llama_cpp.llama_model_quantize(
    sys.argv[1].encode(), sys.argv[2].encode(), ctypes.byref(settings)
)
print(llama_cpp.__version__)
sys.exit(code)
"""


@dataclass(frozen=True)
class Text:
    """A question, the float32 model's greedy answer to it, and the tokens of both."""

    request: GenerationRequest
    answer: tuple[int, ...]
    token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """What was measured of one file."""

    format: Format
    kind: Quantization
    nbytes: int
    bits: float
    mean_kld: float
    high_kld: float
    top1: float
    logit_nmse: float
    weight_nmse: float
    worst_nmse: float
    worst_name: str
    answers: float


def main() -> None:
    """Measure and write the table, or compare with llama-cpp-python."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beside", metavar="PYTHON", help="compare with llama-cpp-python's files")
    chosen = parser.parse_args()
    with TemporaryDirectory(prefix="aprqa-") as name:
        if chosen.beside:
            compare(Path(name), chosen.beside)
            return
        table = measured(Path(name))
    print(table)
    whole = DOCUMENT.read_text(encoding="utf-8")
    before, rest = whole.split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def measured(space: Path) -> str:
    """The table of every quantization in every format that holds it."""
    convert(MODEL, space / "f32", quantization=Quantization.F32)
    with closing(load_exact(space / "f32", Format.SAFETENSORS, threads=1)) as engine:
        texts = texts_of(engine)
        reference = np.concatenate([engine.logits(text.token_ids) for text in texts])
    rows = [
        row_of(space, format_, kind, texts, reference)
        for format_ in (Format.GGUF, Format.APR)
        for kind in LADDER
        if why_impossible(format_, kind) is None
    ]
    says = f"{len(texts)} texts of {len(reference)} positions in all.\n\n"
    return says + table_of(rows)


def texts_of(engine: Engine) -> list[Text]:
    """The playbook's questions and generated sums, in run and in chat, answered greedily."""
    playbook = read_playbook(PLAYBOOK).playbook
    asked: list[tuple[Modality, tuple[str, ...]]] = []
    for scenario in playbook.scenarios:
        turns = scenario.turns or (scenario.prompt or "",)
        asked += [
            (modality, turns) for modality in scenario.expands_to((Modality.RUN, Modality.CHAT))
        ]
    sums = [s.prompt for s in generate_scenarios(2 * GENERATED) if s.name.startswith("arithmetic")]
    asked += [(mode, (prompt,)) for prompt in sums for mode in (Modality.RUN, Modality.CHAT)]
    texts = []
    for modality, turns in asked:
        messages: list[Message] = []
        for turn in turns:
            messages.append(Message("user", turn))
            request = (
                GenerationRequest(prompt=turn, max_tokens=MAX_TOKENS)
                if modality is Modality.RUN
                else GenerationRequest(messages=tuple(messages), max_tokens=MAX_TOKENS)
            )
            answer = engine.generate(request)
            ids = (*answer.prompt_token_ids, *answer.token_ids)
            texts.append(Text(request, answer.token_ids, ids))
            messages.append(Message("assistant", answer.text))
    return texts


def row_of(
    space: Path,
    format_: Format,
    kind: Quantization,
    texts: Sequence[Text],
    reference: np.ndarray[Any, Any],
) -> Row:
    """Make one file, run it, and measure it."""
    path = space / f"{kind}.{format_}"
    made = convert(MODEL, path, quantization=kind)
    engine = load_exact(path, format_, threads=1)
    with closing(engine):
        own = np.concatenate([engine.logits(text.token_ids) for text in texts])
        same = sum(engine.generate(text.request).token_ids == text.answer for text in texts)
    tensors = open_checkpoint(path).tensors.values()
    values = sum(math.prod(tensor.shape) for tensor in tensors)
    kld = kl_divergence(reference, own)
    whole, worst, name = weight_errors(path)
    return Row(
        format=format_,
        kind=kind,
        nbytes=made.nbytes,
        bits=8 * sum(tensor.nbytes for tensor in tensors) / values,
        mean_kld=float(kld.mean()),
        high_kld=float(np.percentile(kld, 99.9)),
        top1=float((reference.argmax(axis=1) == own.argmax(axis=1)).mean()),
        logit_nmse=float(np.square(reference - own).mean() / reference.var()),
        weight_nmse=whole,
        worst_nmse=worst,
        worst_name=name,
        answers=same / len(texts),
    )


def weight_errors(path: Path) -> tuple[float, float, str]:
    """NMSE of all matrices together and of the worst one, which is named."""
    own = {tensor.name: tensor for tensor in read_portable(path).tensors}
    wrong = power = 0.0
    worst, name = -1.0, ""
    for tensor in read_portable(MODEL).tensors:
        if len(tensor.shape) < 2:
            continue
        wanted = tensor.values().astype(np.float64)
        error = float(np.square(wanted - own[tensor.name].values()).sum())
        scale = float(np.square(wanted).sum())
        wrong, power = wrong + error, power + scale
        if error / scale > worst:
            worst, name = error / scale, tensor.name
    return wrong / power, worst, name


def table_of(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| file | bytes | bits per weight | mean KLD | 99.9 % KLD | top-1 | NMSE of logits "
        "| NMSE of weights | worst matrix | same answers |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.format} {row.kind} | {row.nbytes:,} | {row.bits:.2f} | {number(row.mean_kld)} "
        f"| {number(row.high_kld)} | {100 * row.top1:.2f} % | {number(row.logit_nmse)} "
        f"| {number(row.weight_nmse)} | {number(row.worst_nmse)} | {100 * row.answers:.1f} % |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Two digits that count; what is below float32's own noise is a bound."""
    if value == 0:
        return "0"
    return "< 1e-9" if value < 1e-9 else f"{value:.2g}" if value >= 1e-3 else f"{value:.1e}"


def compare(space: Path, python: str) -> None:
    """Quantize one F16 file by `convert` and by llama-cpp-python; exit 1 when tensors differ."""
    plain = space / "f16.gguf"
    convert(MODEL, plain, quantization=Quantization.F16)
    differs = False
    for kind in LADDER:
        if kind in PLAIN:
            continue
        ours, theirs = space / f"ours-{kind}.gguf", space / f"theirs-{kind}.gguf"
        convert(plain, ours, quantization=kind)
        command = [python, "-c", QUANTIZE, str(plain), str(theirs), str(FILE_TYPES[kind])]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        one, other = GgufFile.open(ours), GgufFile.open(theirs)
        alike = one.tensors.keys() == other.tensors.keys()
        equal = [
            one.tensors[name].dtype == other.tensors[name].dtype
            and one.tensors[name].shape == other.tensors[name].shape
            and np.array_equal(one.bytes_of(name), other.bytes_of(name))
            for name in one.tensors
            if name in other.tensors
        ]
        print(
            f"{kind}: {sum(equal)} of {len(one.tensors)} tensors equal to those of "
            f"llama-cpp-python {done.stdout.split()[-1]}"
            f"{'' if alike else ', other names'}"
        )
        differs = differs or not alike or not all(equal)
    sys.exit(1 if differs else 0)


if __name__ == "__main__":
    main()
