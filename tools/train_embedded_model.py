"""Train, export or evaluate the embedded model `aprqa-tiny` (run with --help)."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedded_model import evaluation, training

ROOT = Path(__file__).resolve().parent.parent
MODEL_FOLDER = ROOT / "src" / "pytest_aprqa" / "models" / "aprqa-tiny"
STEPS = 6667
SEED = 0
DESCRIPTION = """\
Make the small language model that ships with the plugin.

Everything comes from one seed: the generated texts, the tokenizer, the first weights and
the order of the batches. A run is a fixed number of steps in two processes of one thread.
It saves a checkpoint now and then; the same command goes on from the last one.
"""
EXAMPLES = """\
examples:
  python tools/train_embedded_model.py train               the run behind the shipped model
  python tools/train_embedded_model.py train --steps 300 --out /tmp/m --work /tmp/w
                                                           a quick look at the whole path
  python tools/train_embedded_model.py export              write the last checkpoint as it is
  python tools/train_embedded_model.py evaluate            measure what the model answers
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        choices=("train", "export", "evaluate"),
        help="train the model; write the last checkpoint; or measure a model directory",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="optimiser steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of everything (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=MODEL_FOLDER, help="model directory to write or to evaluate"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "aprqa-tiny",
        help="folder for checkpoints; delete it to start afresh",
    )
    parser.add_argument(
        "--failures", type=Path, help="evaluate: also write examples of wrong answers to this file"
    )
    return parser


def main() -> None:
    """Run the chosen command."""
    arguments = _parser().parse_args()
    plan = training.Plan(arguments.steps, arguments.seed, arguments.out, arguments.work)
    if arguments.command == "train":
        training.run(plan)
    elif arguments.command == "export":
        print(f"wrote step {training.export_checkpoint(plan)} to {plan.out}")
    else:
        evaluation.write_evaluation(plan.out, arguments.failures)


if __name__ == "__main__":
    main()
