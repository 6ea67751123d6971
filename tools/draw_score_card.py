"""Draw the README's picture of the score card from a real run of the embedded playbook."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "score-card.svg"
COMMAND = ("pytest", "playbooks/", "-n", "auto", "--tier=mvp")
WIDTH = 110


def run() -> list[str]:
    """What the command prints, colours included, from its header line to its last."""
    finished = subprocess.run(
        [sys.executable, "-m", *COMMAND, "--color=yes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = finished.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if "aprqa: " in line)
    return [line for line in lines[start:] if line.strip()]


def main() -> None:
    """Run the command and write the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {' '.join(COMMAND)}", style="bold"))
    for line in run():
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ellipsis", crop=True)
    drawn = console.export_svg(title="pytest-aprqa")
    offline = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL).replace("Fira Code, ", "")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(offline, encoding="utf-8")
    print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
