"""The hooks by which a conftest.py or another plugin adds engines and oracles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from pytest_aprqa.engines.providers import EngineProvider
    from pytest_aprqa.oracles.plugins import OracleFactory


def pytest_aprqa_engines(config: pytest.Config) -> Sequence[EngineProvider]:
    """Engines that `--aprqa-engine` can name, beside those built in and installed.

    Called once in each process, before collection, and only when `--aprqa-engine` is given: of the
    conftest.py files those act that pytest loads at its start (the root directory's, those of the
    arguments).
    """
    raise NotImplementedError


def pytest_aprqa_oracles(config: pytest.Config) -> Mapping[str, OracleFactory]:
    """Oracles by name, with a dot in it, as `oracle: acme.polite` in a playbook names them.

    A factory is called with the playbook's settings by keyword and gives the oracle. Called once
    in each process, before collection.
    """
    raise NotImplementedError
