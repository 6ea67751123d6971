"""How long `pytest playbooks/ --collect-only -q` takes: goal under 2 s."""

from __future__ import annotations

from timing import report, seconds

if __name__ == "__main__":
    command = ["-m", "pytest", "playbooks/", "--collect-only", "-q"]
    report("pytest playbooks/ --collect-only -q", seconds(command, runs=5))
