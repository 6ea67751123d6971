"""The command line: options, their help, and the settings they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_aprqa.domain.model import Tier
    from pytest_aprqa.domain.plan import Selection

_TIERS = ("smoke", "mvp", "quick", "standard", "deep", "full")
_AXES = {
    "backend": ("cpu", "gpu"),
    "format": ("safetensors", "apr", "gguf"),
    "modality": ("run", "chat", "serve"),
}


def add_options(parser: pytest.Parser) -> None:
    """Add `--tier`, the `--aprqa-*` options and their ini keys."""
    _add_what_is_qualified(parser.getgroup("aprqa", "model qualification (pytest-aprqa)"))
    _add_how_it_runs(parser)


def _add_what_is_qualified(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--tier",
        choices=_TIERS,
        default=None,
        help="how deep to qualify: smoke (3 scenarios, SafeTensors on CPU), mvp (the whole matrix, "
        "listed scenarios; certifies PROVISIONAL at most), quick (10 per cell, CPU), standard "
        "(25 per cell), deep or full (100 per cell; certifies). Without it the playbook's own "
        "matrix and depth act, as feedback",
    )
    group.addoption(
        "--aprqa-model",
        metavar="PATH",
        default=None,
        help="qualify the model in this directory against the playbooks, instead of theirs",
    )
    group.addoption(
        "--aprqa-download",
        action="store_true",
        help="get missing model files from the Hugging Face Hub, at the playbook's revision",
    )
    for axis, words in _AXES.items():
        group.addoption(
            f"--aprqa-{axis}",
            action="append",
            choices=words,
            default=[],
            help=f"run only this {axis}; repeatable. The result names the narrowed scope and "
            "certifies nothing",
        )


def _add_how_it_runs(parser: pytest.Parser) -> None:
    group = parser.getgroup("aprqa")
    group.addoption(
        "--aprqa-gate",
        choices=("stop", "block"),
        default="stop",
        help="what a failed gateway stops: the whole run (stop, the default), or only the items "
        "of that playbook (block)",
    )
    group.addoption(
        "--aprqa-report-dir",
        metavar="DIR",
        default=None,
        help="where evidence is written (default: .aprqa in the root directory); every run gets "
        "a directory of its own",
    )
    parser.addini(
        "aprqa_report_dir", "where evidence is written; --aprqa-report-dir wins", default=".aprqa"
    )
    parser.addini(
        "aprqa_hang_grace",
        "seconds that an item may hang beyond its own time limits before pytest-timeout ends it",
        default="30",
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one run, parsed."""

    tier: Tier | None
    selection: Selection
    model_path: Path | None
    download: bool


def settings_of(config: pytest.Config) -> Settings:
    """Parse the options that say what is qualified."""
    from pytest_aprqa.domain.model import Backend, Format, Modality, Tier
    from pytest_aprqa.domain.plan import Selection

    tier = config.getoption("tier")
    return Settings(
        tier=None if tier is None else Tier.DEEP if tier == "full" else Tier(tier),
        selection=Selection(
            backends=tuple(Backend(word) for word in config.getoption("aprqa_backend")),
            formats=tuple(Format(word) for word in config.getoption("aprqa_format")),
            modalities=tuple(Modality(word) for word in config.getoption("aprqa_modality")),
        ),
        model_path=_model_path(config),
        download=bool(config.getoption("aprqa_download")),
    )


def check_options(config: pytest.Config) -> None:
    """Refuse what cannot work before anything is collected.

    Raises:
        pytest.UsageError: when `--aprqa-model` names no directory.
    """
    path = _model_path(config)
    if path is not None and not path.is_dir():
        raise pytest.UsageError(
            f"--aprqa-model: {path} is not a directory; give the directory that holds config.json"
        )


def report_dir(config: pytest.Config) -> Path:
    """The directory for evidence: option, then ini; relative to the root directory if relative."""
    chosen = config.getoption("aprqa_report_dir")
    if chosen is not None:
        return config.invocation_params.dir / str(chosen)
    return config.rootpath / str(config.getini("aprqa_report_dir"))


def hang_grace(config: pytest.Config) -> float | None:
    """Seconds of grace before a hanging item is ended; None when that is not ours to set.

    pytest-timeout is the last net, for an engine that does not heed its own time limit. A limit
    that the user gave it stands.
    """
    if not config.pluginmanager.hasplugin("timeout"):
        return None
    if config.getoption("timeout", None) is not None or config.getini("timeout"):
        return None
    return float(str(config.getini("aprqa_hang_grace")))


def _model_path(config: pytest.Config) -> Path | None:
    given = config.getoption("aprqa_model")
    return None if given is None else config.invocation_params.dir / given
