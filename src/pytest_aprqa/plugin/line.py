"""The line of one run: its directory, and whether and why it was stopped.

A stop is a file in the run's directory, so that every worker sees it before its next item:
`pytest.exit` in a worker is an internal error (xdist#1239), and no message reaches a worker's
queue before the items that already wait in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa.plugin.options import report_dir

_LINE = pytest.StashKey["Line"]()
_EVERYTHING = "stop.json"


@dataclass(slots=True)
class Line:
    """One run's directory and its stops.

    The directory is made with the first thing written into it, so a run without playbooks
    leaves nothing behind.
    """

    run_dir: Path
    started: float
    """When the run began, seconds since the epoch."""
    stops_everything: bool
    """True when a failed gateway stops the run and not only its own playbook."""
    exit_reason: str | None = field(default=None)
    """Set in this process when the run is to end with `pytest.exit` after the current item."""
    _here: dict[str, str] = field(default_factory=dict)
    """The stops that this process made, by file name."""

    def as_workerinput(self) -> str:
        """What a worker needs to join the line, as JSON."""
        return json.dumps([str(self.run_dir), self.started])

    def stop(self, file_id: str, reason: str) -> None:
        """Stop the line: everything, or the items of this playbook alone."""
        if self.stops_everything:
            self._write(_EVERYTHING, reason)
            self.exit_reason = self.exit_reason or reason
        else:
            self.block(file_id, reason)

    def block(self, file_id: str, reason: str) -> None:
        """Block the items of this playbook that are still to come."""
        self._write(_block_name(file_id), reason)

    def blocked_by(self, file_id: str) -> str | None:
        """Why this playbook's next item must not run; None when it may."""
        for name in (_EVERYTHING, _block_name(file_id)):
            path = self.run_dir / name
            if path.exists():
                return str(json.loads(path.read_text(encoding="utf-8"))["reason"])
            if name in self._here:
                return self._here[name]
        return None

    def seconds_since_start_of(self, file_id: str) -> float:
        """Seconds since the first item of this playbook began, in whichever worker."""
        path = self.run_dir / f"started-{_digest(file_id)}"
        self._make()
        try:
            with path.open("x", encoding="utf-8") as stream:
                stream.write(file_id)
        except FileExistsError:
            return max(0.0, time.time() - path.stat().st_mtime)
        return 0.0

    def _write(self, name: str, reason: str) -> None:
        """The first stop of a scope stands; written under another name first, never half there."""
        self._here.setdefault(name, reason)
        draft = self.run_dir / f".{name}.{os.getpid()}"
        try:
            self._make()
            draft.write_text(json.dumps({"reason": reason}), encoding="utf-8")
            os.link(draft, self.run_dir / name)
        except FileExistsError:
            return
        except OSError as error:
            # A disk without room stops this process's items; others go on, and nothing is scored.
            self._here[name] = f"{reason} (other workers were not told: {error.strerror})"
        finally:
            draft.unlink(missing_ok=True)

    def _make(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)


def line_of(config: pytest.Config) -> Line:
    """The line of this run; a worker joins its controller's."""
    line = config.stash.get(_LINE, None)
    if line is None:
        line = _new_line(config)
        config.stash[_LINE] = line
    return line


def in_worker(config: pytest.Config) -> bool:
    """True in an xdist worker."""
    return hasattr(config, "workerinput")


def worker_of(config: pytest.Config) -> str:
    """The name of this xdist worker; `main` without xdist."""
    workerinput: dict[str, Any] = getattr(config, "workerinput", {})
    return str(workerinput.get("workerid", "main"))


def _new_line(config: pytest.Config) -> Line:
    stops_everything = config.getoption("aprqa_gate") == "stop"
    workerinput: dict[str, Any] = getattr(config, "workerinput", {})
    if "aprqa_run" in workerinput:
        run_dir, started = json.loads(workerinput["aprqa_run"])
        return Line(Path(run_dir), started, stops_everything)
    now = datetime.now(UTC)
    name = f"{now:%Y%m%dT%H%M%S.%f}"[:-3] + f"-{os.getpid()}"
    return Line(report_dir(config) / name, now.timestamp(), stops_everything)


def _block_name(file_id: str) -> str:
    return f"blocked-{_digest(file_id)}.json"


def _digest(file_id: str) -> str:
    return hashlib.sha256(file_id.encode()).hexdigest()[:16]
