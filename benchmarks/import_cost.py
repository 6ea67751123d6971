"""What the plugin's entry point adds to a pytest run without playbooks: goal under 10 ms."""

from __future__ import annotations

import subprocess
import sys

from timing import report

CODE = """
import time, pytest
began = time.perf_counter()
import pytest_aprqa.plugin.hooks
print(time.perf_counter() - began)
"""


def main() -> None:
    """Import the entry point in fresh processes that already hold pytest."""
    taken = [
        float(subprocess.check_output([sys.executable, "-c", CODE], text=True)) for _ in range(20)
    ]
    report("import of pytest_aprqa.plugin.hooks", taken, unit="ms", scale=1000)


if __name__ == "__main__":
    main()
