"""`python -m pytest_aprqa.cli`: the command without its script."""

from __future__ import annotations

import sys

from pytest_aprqa.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
