from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_aprqa.checks.gates.proof import ProofBench


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProofBench]:
    made = ProofBench(tmp_path_factory.mktemp("bench"))
    yield made
    made.close()
