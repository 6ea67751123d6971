"""Write the JSON schema of playbooks, or with --check only say whether the file is current."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_aprqa.formats.playbook_yaml import playbook_json_schema

SCHEMA_PATH = Path(__file__).resolve().parent.parent / "playbooks" / "playbook.schema.json"


def rendered() -> str:
    """The schema file's text."""
    return json.dumps(playbook_json_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None, *, path: Path = SCHEMA_PATH) -> int:
    """Write the file, or check it; the exit status is 1 if it is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check: bool = parser.parse_args(arguments).check
    text = rendered()
    current = path.is_file() and path.read_text(encoding="utf-8") == text
    if check:
        if not current:
            print(f"{path} is not current; run tools/write_schemas.py", file=sys.stderr)
        return 0 if current else 1
    if not current:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
