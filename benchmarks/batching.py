"""1800 items of the embedded model at tier deep, in batches and each alone: items per second.

The questions are those of the embedded playbook, the long code answers among them, with numbers
filled in so that no two are alike. Verdicts and answers of both runs are compared item by item.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

QUESTIONS = 900
HEAD = """\
version: "1.0"
model: {id: embedded/aprqa-tiny, formats: [safetensors]}
test_matrix: {modalities: [run, chat], backends: [cpu], max_tokens: 64}
failure_policy: collect_all
scenarios:
"""
TASKS = (
    "reverse a string",
    "add two numbers",
    "compute the factorial of a number",
    "check whether a number is even",
    "find the maximum of a list",
    "count the vowels in a string",
)
LANGUAGES = ("Python", "JavaScript", "Rust")


def questions() -> list[str]:
    """Half sums, half code, all different."""
    draw = random.Random(1)
    found: dict[str, None] = {}
    while len(found) < QUESTIONS:
        a, b = draw.randint(10, 99), draw.randint(1, 49)
        language, task = draw.choice(LANGUAGES), draw.choice(TASKS)
        text = (
            f"What is {a} {draw.choice('+-')} {b}?"
            if len(found) % 2
            else f"Write a {language} function to {task}. ({a}{b})"
        )
        found[text] = None
    return list(found)


def playbook() -> str:
    """The playbook of all questions; nothing but garbage fails, as speed is what is looked at."""
    lines = [
        f"  - {{name: q{i:03}, prompt: {json.dumps(text)}, oracle: garbage}}\n"
        for i, text in enumerate(questions())
    ]
    return HEAD + "".join(lines)


def run(directory: Path, mode: str) -> list[dict[str, Any]]:
    """The scenario evidence of one run."""
    command = ["-m", "pytest", "-q", "-n0", "--tier=deep", f"--aprqa-batch={mode}"]
    reports = directory / mode
    subprocess.run(
        [sys.executable, *command, f"--aprqa-report-dir={reports}", "many.playbook.yaml"],
        cwd=directory,
        check=False,
        stdout=subprocess.DEVNULL,
    )
    [file] = reports.glob("*/many/evidence.json")
    evidence = json.loads(file.read_text(encoding="utf-8"))["evidence"]
    return [item for item in evidence if item["check"] == "scenario"]


def items_per_second(evidence: list[dict[str, Any]]) -> float:
    """From the first item's record to the last one's."""
    times = sorted(datetime.fromisoformat(item["timestamp"]) for item in evidence)
    return (len(times) - 1) / (times[-1] - times[0]).total_seconds()


def main() -> None:
    """Run both ways and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="how often each way is run")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="aprqa-bench-") as name:
        for number in range(runs):
            directory = Path(name) / str(number)
            directory.mkdir()
            (directory / "many.playbook.yaml").write_text(playbook(), encoding="utf-8")
            (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
            alone, together = run(directory, "off"), run(directory, "auto")
            slow, fast = items_per_second(alone), items_per_second(together)
            tokens = sum(item["metrics"]["completion_tokens"] for item in alone) / len(alone)
            verdicts = sum(
                a["outcome"] == b["outcome"] for a, b in zip(alone, together, strict=True)
            )
            answers = sum(a["output"] == b["output"] for a, b in zip(alone, together, strict=True))
            batched = sum(item["metrics"]["batch_size"] > 1 for item in together)
            print(
                f"{len(alone)} items, {tokens:.1f} tokens each: alone {slow:.0f} items/s, in "
                f"batches {fast:.0f} items/s ({fast / slow:.1f} times); {batched} batched; "
                f"same verdict {verdicts}, same text {answers}"
            )


if __name__ == "__main__":
    main()
