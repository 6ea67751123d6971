"""`aprqa golden`: a corpus of a model's logits, which later runs are held against."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.cli.sources import model_path
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.model import Format

NAME = "golden"
HELP = "write a golden corpus: prompts, greedy answers and all logits, in float32"
DESCRIPTION = """\
Loads the model in float32 on the CPU, answers each prompt greedily, and writes the logits of prompt
and answer into a new directory with a manifest. A playbook that names the directory as
hf_parity.corpus holds the ground truth against it: after an update of a library, on another
machine, or for a copy of the weights.
"""
EXAMPLES = """\
examples:
  aprqa golden embedded/aprqa-tiny --out golden
  aprqa golden ./checkpoint --out golden --prompt "What is 2+2?" --prompt "Hello" --tokens 32
"""
_TOKENS = 24
_PROMPTS = 12


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa golden`."""
    command.add_argument(
        "model", metavar="MODEL", help="a Hugging Face directory, a .apr or .gguf file, or an id"
    )
    command.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="the directory that is made"
    )
    command.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help=f"a plain prompt; may be given again (default: {_PROMPTS} short questions)",
    )
    command.add_argument(
        "--tokens",
        type=_count,
        default=_TOKENS,
        metavar="N",
        help=f"tokens of each answer at most (default: {_TOKENS})",
    )
    command.add_argument("--replace", action="store_true", help="replace DIR when it exists")
    command.add_argument("--json", action="store_true", help="write one JSON object at the end")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 1 to 4096")
    return int(text)


def run(chosen: argparse.Namespace) -> Exit:
    """Write the corpus, and say in one line what was written."""
    from pytest_aprqa.checks.gates.numbers.golden import write_corpus
    from pytest_aprqa.checks.gates.numbers.texts import QUESTIONS
    from pytest_aprqa.engines.choice import load_exact
    from pytest_aprqa.engines.engine import EngineCrashed, LoadFailed
    from pytest_aprqa.formats.atomic import atomic_directory

    path = model_path(chosen.model)
    suffix = path.suffix.lstrip(".")
    format_ = Format(suffix) if path.is_file() and suffix in ("apr", "gguf") else Format.SAFETENSORS
    if path.is_file() and format_ is Format.SAFETENSORS:
        path = path.parent
    prompts = chosen.prompt or QUESTIONS[:_PROMPTS]
    try:
        with atomic_directory(chosen.out.expanduser(), replace=chosen.replace) as draft:
            engine = load_exact(path, format_)
            try:
                made = write_corpus(engine, chosen.model, prompts, chosen.tokens, draft)
            finally:
                engine.close()
    except (LoadFailed, EngineCrashed) as error:
        raise AprqaError(str(error)) from error
    positions = sum(len(golden.ids) for golden in made.prompts)
    if chosen.json:
        write_json(
            {
                "model": chosen.model,
                "corpus": str(chosen.out),
                "prompts": len(made.prompts),
                "positions": positions,
                "vocabulary": made.vocabulary,
            }
        )
        return Exit.FINE
    told = f"{len(made.prompts)} prompts, {positions} positions of {made.vocabulary} logits"
    Screen().line(f"{chosen.out}: {told}")
    return Exit.FINE
