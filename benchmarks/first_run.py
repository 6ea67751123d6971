"""How long the qualification of the embedded model takes: goal under 60 s on two cores."""

from __future__ import annotations

from timing import report, seconds

if __name__ == "__main__":
    command = ["-m", "pytest", "playbooks/", "-n", "auto", "--tier=mvp"]
    report("pytest playbooks/ -n auto --tier=mvp", seconds(command, runs=3))
