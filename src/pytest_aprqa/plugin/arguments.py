"""Which playbooks the command line names, known before anything is collected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_aprqa.plugin.hooks import PLAYBOOK_SUFFIX

_NEVER_SEARCHED = frozenset({".git", ".tox", ".venv", "venv", "node_modules", "__pycache__"})


def playbooks_named(config: pytest.Config) -> Iterator[Path]:
    """The playbooks in or under the run's arguments, in a stable order."""
    for argument in config.args:
        path = config.invocation_params.dir / argument.split("::")[0]
        if path.name.endswith(PLAYBOOK_SUFFIX):
            yield path
            continue
        for root, directories, files in os.walk(path):
            directories[:] = sorted(d for d in directories if d not in _NEVER_SEARCHED)
            yield from (
                Path(root) / name for name in sorted(files) if name.endswith(PLAYBOOK_SUFFIX)
            )
