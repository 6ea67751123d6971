"""Write docs/gates.md, the table of all falsification gates, or with --check only check it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pytest_aprqa.checks.gates.registry import aliases, gates, proofs

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = Path("docs") / "gates.md"
_HEAD = """\
# Falsification gates

{count} claims about a model, each of which has been seen to fail. Written by `tools/write_gates.py`
from the registry; the tests plant every defect below and look for exactly its gate to fall, and for
the gate to hold without it. `aprqa gates explain ID` tells more about one, `aprqa gates prove ID`
plants its defect before your eyes.

*About* says what one item of a gate is about: `model` the ground truth's files (once for each
playbook), `target` one loaded format, quantization and backend, `server` that target's server,
`conversion` one conversion, `scenario` one question, `gateway` what stands before all others.
P0 blocks the model. *Takes* is what the check needs at most.
"""


def document() -> str:
    """The text of docs/gates.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD.format(count=len(gates()))
    by_gate = {proof.gate: proof for proof in proofs()}
    ordered = sorted(gates(), key=lambda gate: (gate.domain, gate.id))
    for domain, found in groupby(ordered, key=lambda gate: gate.domain):
        yield f"## {domain}"
        yield ""
        yield "| gate | asserts | | about | takes | falls when |"
        yield "|---|---|---|---|---|---|"
        for gate in found:
            told = (gate.assertion, gate.severity, gate.place, gate.cost, by_gate[gate.id].defect)
            yield f"| `{gate.id}` | " + " | ".join(map(_cell, told)) + " |"
        yield ""
    yield "## Other names"
    yield ""
    yield "Ids of other catalogues that make the same claim; playbooks may use them."
    yield ""
    yield "| id | gate |"
    yield "|---|---|"
    for alias, gate_id in sorted(aliases().items()):
        yield f"| `{alias}` | `{gate_id}` |"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Write the document, or check it; the exit status is 1 if it is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check: bool = parser.parse_args(arguments).check
    path, text = root / DOCUMENT, document()
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    if check:
        print(f"{path} is not current; run tools/write_gates.py", file=sys.stderr)
        return 1
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
