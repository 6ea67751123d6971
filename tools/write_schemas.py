"""Write the JSON schemas of playbooks and evidence, or with --check only check them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_aprqa.domain.evidence import SCHEMA_VERSION, RunRecord
from pytest_aprqa.formats.playbook_yaml import playbook_json_schema

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOK_SCHEMA = Path("playbooks") / "playbook.schema.json"
EVIDENCE_SCHEMA = Path("docs") / "evidence.schema.json"


def rendered() -> Mapping[Path, str]:
    """The text of each schema file, by its path in the project."""
    evidence = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"evidence format {SCHEMA_VERSION}",
        **RunRecord.model_json_schema(mode="serialization"),
    }
    return {
        path: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for path, schema in (
            (PLAYBOOK_SCHEMA, playbook_json_schema()),
            (EVIDENCE_SCHEMA, evidence),
        )
    }


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Write the files, or check them; the exit status is 1 if one is not current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    check: bool = parser.parse_args(arguments).check
    status = 0
    for relative, text in rendered().items():
        path = root / relative
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            print(f"{path} is not current; run tools/write_schemas.py", file=sys.stderr)
            status = 1
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
