"""Which playbooks the command line names, known before anything is collected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_aprqa.plugin.hooks import PLAYBOOK_SUFFIX

_NEVER_SEARCHED = frozenset({".git", ".tox", ".venv", "venv", "node_modules", "__pycache__"})


def playbooks_named(config: pytest.Config) -> Iterator[Path]:
    """The playbooks in or under the run's arguments, in a stable order."""
    for argument in config.args:
        yield from _playbooks_in(_path_of(argument, config))


def targets_named(config: pytest.Config) -> dict[Path, frozenset[str]]:
    """Each playbook once, with the targets that node ids name of it; none means all."""
    named: dict[Path, set[str]] = {}
    whole: set[Path] = set()
    for argument in config.args:
        path, *rest = argument.split("::")
        if rest and path.endswith(PLAYBOOK_SUFFIX):
            named.setdefault(_path_of(path, config).resolve(), set()).add(rest[0])
        else:
            whole.update(p.resolve() for p in _playbooks_in(_path_of(path, config)))
    return {path: frozenset() for path in sorted(whole)} | {
        path: frozenset(targets) for path, targets in named.items() if path not in whole
    }


def only_playbooks(config: pytest.Config) -> bool:
    """Whether the run's arguments hold playbooks and no file of ordinary tests."""
    patterns = [str(pattern) for pattern in config.getini("python_files")]
    return not any(
        fnmatch(file.name, pattern)
        for argument in config.args
        for file in _files_under(_path_of(argument, config))
        for pattern in patterns
    )


def _playbooks_in(path: Path) -> Iterator[Path]:
    return (file for file in _files_under(path) if file.name.endswith(PLAYBOOK_SUFFIX))


def _path_of(argument: str, config: pytest.Config) -> Path:
    return config.invocation_params.dir / argument.split("::")[0]


def _files_under(path: Path) -> Iterator[Path]:
    """The path itself if it is no directory, else every file below it, in a stable order."""
    if not path.is_dir():
        yield path
    for root, directories, files in os.walk(path):
        directories[:] = sorted(d for d in directories if d not in _NEVER_SEARCHED)
        yield from (Path(root) / name for name in sorted(files))
