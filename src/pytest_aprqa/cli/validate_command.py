"""`aprqa validate`: is a model sound in itself?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.cli.sources import ACCEPTED, model_path

if TYPE_CHECKING:
    import argparse

NAME = "validate"
HELP = "find what is wrong with a model's files"
DESCRIPTION = """\
Check a model without running it: header and offsets, NaN and infinity, tensors of zeros or of
one value, embedding rows of zeros, config against tensors, config and tokenizer against the
format's own keys, checksums, and what the loaders of the format require.

Each finding is one line: a code, and what is wrong where. What could not be judged is listed too.
"""
EXAMPLES = """\
examples:
  aprqa validate model.gguf
  aprqa validate ./checkpoint --json | jq '.findings[].message'
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa validate`."""
    command.add_argument("model", metavar="FILE", help=ACCEPTED)
    command.add_argument("--json", action="store_true", help="write one JSON object")


def run(chosen: argparse.Namespace) -> Exit:
    """Print the findings; status 1 when there is one."""
    from pytest_aprqa.checks.file_validation import validate_file

    path = model_path(chosen.model)
    report = validate_file(path)
    if chosen.json:
        write_json(
            {
                "path": str(path),
                "healthy": report.healthy,
                "findings": [
                    {"code": f.code, "subject": f.subject, "message": f.message}
                    for f in report.findings
                ],
                "not_judged": list(report.not_judged),
            }
        )
        return Exit.FINE if report.healthy else Exit.WRONG
    screen = Screen()
    for finding in report.findings:
        screen.line(f"{finding.code}: {finding.message}", style="red")
    for note in report.not_judged:
        screen.line(f"not judged: {note}", style="yellow")
    if report.healthy:
        screen.line(f"{path}: healthy", style="green")
        return Exit.FINE
    count = len(report.findings)
    screen.line(f"{path}: {count} {'finding' if count == 1 else 'findings'}", style="bold")
    return Exit.WRONG
