"""Entry point of the plugin: imported in every pytest run, so it imports nothing but pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.plugin import hookspecs
from pytest_aprqa.plugin.options import add_options, check_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_aprqa.plugin.collector import PlaybookFile

PLAYBOOK_SUFFIX = ".playbook.yaml"
_WORKERS = pytest.StashKey["str | None"]()

_MARKERS = {
    "aprqa(format, backend, modality, quantization, severity, tier, scenario)": "a playbook's item",
    "gateway": "one of the gateways G0 to G4 at the head of a target",
    "conversion": "conversions between formats, each held against its original",
    "safetensors": "items that run the SafeTensors weights",
    "apr": "items that run the APR weights",
    "gguf": "items that run the GGUF weights",
    "cpu": "items that run on the CPU",
    "gpu": "items that run on a GPU",
    "run": "items that complete a plain prompt",
    "chat": "items that go through the model's chat template",
    "serve": "items that ask over HTTP",
    "gate": "gates: of the model's files, of a target and its answers, of its server",
    "model": "gates about the files of the ground truth",
    "P0": "items whose falsification blocks the model",
    "P1": "items whose falsification counts against the score",
    "P2": "items whose falsification is noted",
    "smoke": "items of a run with --tier=smoke",
    "mvp": "items of a run with --tier=mvp",
    "quick": "items of a run with --tier=quick",
    "standard": "items of a run with --tier=standard",
    "deep": "items of a run with --tier=deep",
}
_QUANTIZATIONS = (
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_0", "q4_k_m", "q4_0", "q3_k_m", "q2_k",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the group `aprqa`."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks by which others add engines and oracles."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, so that `--strict-markers` and `-m` know them; check the options."""
    check_options(config)
    _extend(config)
    for name, meaning in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    for name in _QUANTIZATIONS:
        config.addinivalue_line("markers", f"{name}: items that run {name} weights")
    if config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Controller(config), "aprqa-controller")


def _extend(config: pytest.Config) -> None:
    """Find the engines that the command line names, and the oracles that a hook brings."""
    if config.getoption("aprqa_engine"):
        from pytest_aprqa.plugin.extensions import choose_engines

        choose_engines(config)
    if config.hook.pytest_aprqa_oracles.get_hookimpls():
        from pytest_aprqa.plugin.extensions import register_oracles

        register_oracles(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> PlaybookFile | None:
    """Collect `*.playbook.yaml`."""
    if not file_path.name.endswith(PLAYBOOK_SUFFIX):
        return None
    from pytest_aprqa.plugin.collector import PlaybookFile, file_id_of

    file_id = file_id_of(file_path, parent.config.rootpath)
    return PlaybookFile.from_parent(parent, path=file_path, nodeid=file_id)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """With `-n auto`, as many workers as have work and memory; xdist decides without playbooks."""
    from pytest_aprqa.plugin.arguments import playbooks_named

    if not any(playbooks_named(config)):
        return None
    from pytest_aprqa.plugin.workers import auto_workers

    workers = auto_workers(config)
    if workers is None:
        return None
    config.stash[_WORKERS] = workers.told
    return workers.count


class _Controller:
    """What the plugin does where xdist's workers are steered; light until a playbook turns up."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_report_header(self) -> str | None:
        """Why `-n auto` starts fewer workers than there are cores."""
        return self._config.stash.get(_WORKERS, None)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config) -> None:
        """Download once, here, before the workers look for the models' files."""
        if config.getoption("aprqa_download"):
            from pytest_aprqa.plugin.subject import download_ahead

            download_ahead(config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell each worker where the run's directory is."""
        from pytest_aprqa.plugin.line import line_of

        node.workerinput["aprqa_run"] = line_of(self._config).as_workerinput()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Schedule whole targets when a playbook is among the arguments and nobody chose a mode."""
        from pytest_aprqa.plugin.arguments import playbooks_named

        if not any(playbooks_named(config)):
            return None
        from pytest_aprqa.plugin.scheduler import scheduler_for

        return scheduler_for(config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        """Open the ledger once a worker has collected a playbook."""
        if any(f"{PLAYBOOK_SUFFIX}::" in node_id for node_id in ids):
            from pytest_aprqa.plugin.ledger import ledger_of

            ledger_of(self._config).expect(ids)
