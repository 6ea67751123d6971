"""Run a playbook on mutants: one pytest session over many playbooks, read back as evidence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.causes import causes
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.evidence import Outcome, RunRecord
from pytest_aprqa.domain.model import Format, Quantization, Tier
from pytest_aprqa.reports.evidence_files import DOCUMENT, read_record

if TYPE_CHECKING:
    from pathlib import Path

SESSION_S = 3600.0
"""Most seconds that one session over some playbooks may take."""
TOGETHER = 24
"""Most playbooks in one session, which collects the items of all of them first."""
_REFUTED = (Outcome.FALSIFIED, Outcome.CRASHED, Outcome.TIMEOUT)


@dataclass(frozen=True, slots=True)
class Trial:
    """One model that the playbook is run on."""

    name: str
    directory: Path
    """The ground truth: damaged, or the original beside a damaged file."""
    reference: Path | None
    """What the ground truth is held against."""
    format: Format
    quantization: Quantization | None = None
    file: Path | None = None
    """The derived file that is run instead of a conversion."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a run of the playbook on one model came to."""

    refuted: tuple[str, ...]
    """Names of gates, gateways and scenarios that fell, the nearest to the root first."""
    cause: str
    """The first line of the result: the root cause, with its culprit."""
    asked: int
    """Items that were really asked."""
    trouble: str = ""
    """Why there is no result; empty when there is one."""


def run_trials(
    trials: Sequence[Trial],
    playbook: Mapping[str, Any],
    *,
    space: Path,
    tier: Tier,
    workers: int,
    all_gates: bool,
    tell: Callable[[int, int], None],
) -> dict[str, Outcomes]:
    """Run the playbook on every trial; `tell` gets how many are done, and of how many.

    With `all_gates` a run does not stop at the first falsification.
    """
    source = [t for t in trials if t.format is Format.SAFETENSORS]
    derived = [t for t in trials if t.format is not Format.SAFETENSORS]
    parts = [(kind, part) for kind in (source, derived) for part in _parts(kind, workers) if part]
    found: dict[str, Outcomes] = {}
    running: list[subprocess.Popen[bytes]] = []

    def one(numbered: tuple[int, tuple[Sequence[Trial], Sequence[Trial]]]) -> None:
        number, (kind, part) = numbered
        home = space / f"session-{number:03}"
        _write(part, playbook, home, all_gates=all_gates)
        _run(home, tier, running, derived=kind is derived)
        found.update({trial.name: _read(home, trial) for trial in part})
        tell(len(found), len(trials))

    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for done in pool.map(one, enumerate(parts)):
                assert done is None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in running:
                child.terminate()
            raise
    return found


def _parts(trials: Sequence[Trial], workers: int) -> list[Sequence[Trial]]:
    """Shares of at most TOGETHER, and enough of them for all workers."""
    size = max(1, min(TOGETHER, -(-len(trials) // workers)))
    return [trials[start : start + size] for start in range(0, len(trials), size)]


def _write(
    trials: Sequence[Trial], playbook: Mapping[str, Any], home: Path, *, all_gates: bool
) -> None:
    """One playbook for each trial; YAML reads JSON."""
    home.mkdir(parents=True)
    (home / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    for trial in trials:
        made = _playbook_for(trial, playbook, all_gates=all_gates)
        text = json.dumps(made, ensure_ascii=False, indent=1)
        (home / f"{trial.name}.playbook.yaml").write_text(text, encoding="utf-8")


def _playbook_for(trial: Trial, playbook: Mapping[str, Any], *, all_gates: bool) -> dict[str, Any]:
    model = {**playbook["model"], "local_path": str(trial.directory), "formats": [trial.format]}
    model.pop("files", None)
    model["quantizations"] = [] if trial.quantization is None else [trial.quantization]
    if trial.file is not None:
        key = "-".join(part for part in (trial.format, trial.quantization) if part is not None)
        model["files"] = {key: str(trial.file)}
    matrix = {k: v for k, v in playbook["test_matrix"].items() if k != "formats"}
    matrix |= {"backends": ["cpu"], "modalities": ["run", "chat"]}
    sections = dict(playbook.get("differential_tests", {}))
    if trial.reference is not None:
        sections["reference"] = str(trial.reference)
    return {
        **playbook,
        "name": trial.name,
        "model": model,
        "test_matrix": matrix,
        "differential_tests": sections,
        "profile_ci": {"enabled": False},
        "failure_policy": "collect_all" if all_gates else "stop_on_first",
    }


def _run(home: Path, tier: Tier, running: list[subprocess.Popen[bytes]], *, derived: bool) -> None:
    """Without xdist: what lies nearest to the bytes then is asked first, and stops the rest."""
    left_out = "not conversion and not model" if derived else "not conversion"
    command = [
        sys.executable, "-m", "pytest", str(home), "-q", "-p", "no:cacheprovider",
        f"--rootdir={home}", "-c", str(home / "pytest.ini"),
        f"--tier={tier}", "--aprqa-gate=block", "-m", left_out,
        f"--aprqa-report-dir={home / 'runs'}",
    ]  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    with (home / "session.log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=clean, cwd=home)
        running.append(child)
        try:
            status = child.wait(SESSION_S)
        except BaseException:
            child.terminate()
            child.wait(30)
            raise
    if status not in (0, 1):
        tail = (home / "session.log").read_text(encoding="utf-8", errors="replace")[-1500:]
        raise AprqaError(f"the run of the mutants ended with status {status}:\n{tail}")


def _read(home: Path, trial: Trial) -> Outcomes:
    found = sorted((home / "runs").glob(f"*/{trial.name}/{DOCUMENT}"))
    if not found:
        return Outcomes((), "", 0, "no evidence was written")
    return outcomes_of(read_record(found[-1]))


def outcomes_of(record: RunRecord) -> Outcomes:
    """What a record says of its model."""
    ranked = causes(record)
    blamed = f"{ranked[0].name}: {ranked[0]}" if ranked else ""
    asked = sum(item.outcome in (*_REFUTED, Outcome.CORROBORATED) for item in record.evidence)
    asked += len(record.gateways)
    names = [_gate_of(record, cause.name) for cause in ranked]
    trouble = "" if asked else "nothing was asked"
    return Outcomes(tuple(dict.fromkeys(names)), blamed, asked, trouble)


def _gate_of(record: RunRecord, name: str) -> str:
    """The gate that an item is of; the gateway for a gateway's."""
    if name[:2] in ("G0", "G1", "G2", "G3", "G4") and " of " in name:
        return name.split(" of ")[0]
    item = next((e for e in record.evidence if e.id.rsplit("::", 1)[-1] == name), None)
    return name if item is None or not item.gate else item.gate
