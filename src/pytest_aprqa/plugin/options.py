"""The command line: options, their help, and the settings they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_aprqa.domain.model import Format, Tier
    from pytest_aprqa.domain.plan import Selection
    from pytest_aprqa.domain.playbook import EndpointRef

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
    group.addoption(
        "--aprqa-endpoint",
        metavar="URL",
        default=None,
        help="ask the OpenAI-compatible server at URL (vLLM, SGLang, TGI, llama-server, Ollama) "
        "instead of loading the model here; its key comes from APRQA_API_KEY or OPENAI_API_KEY. "
        "What it has loaded and where cannot be seen, so the result certifies nothing",
    )
    group.addoption(
        "--aprqa-endpoint-model",
        metavar="NAME",
        default=None,
        help="what that server calls the model, where it serves several",
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
        "--aprqa-engine",
        action="append",
        metavar="[FORMAT=]NAME",
        default=[],
        help="run targets (of this format) with the named engine instead of the built-in one: "
        "transformers, llama.cpp, apr, or one that a package or conftest.py brings; repeatable, "
        "the first that can run a target does, and what none can run is skipped",
    )
    group.addoption(
        "--aprqa-gate",
        choices=("stop", "block"),
        default="stop",
        help="what a failed gateway stops: the whole run (stop, the default), or only the items "
        "of that playbook (block)",
    )
    group.addoption(
        "--aprqa-batch",
        choices=("auto", "off"),
        default="auto",
        help="whether a target's greedy questions are generated together ahead of the items that "
        "ask them, where the engine can (auto, the default), or each alone (off)",
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
    endpoint: EndpointRef | None
    """The server that the command line names; it wins over a playbook's."""


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
        endpoint=_endpoint(config),
    )


def check_options(config: pytest.Config) -> None:
    """Refuse what cannot work before anything is collected.

    Raises:
        pytest.UsageError: `--aprqa-model` names no directory, `--aprqa-endpoint` no server, or
            `--aprqa-engine` no format.
    """
    for choice in config.getoption("aprqa_engine"):
        format_, named, engine = choice.rpartition("=")
        if not engine or (named and format_ not in _AXES["format"]):
            raise pytest.UsageError(
                f"--aprqa-engine: {choice!r} is neither NAME nor FORMAT=NAME; "
                f"the formats are {', '.join(_AXES['format'])}"
            )
    path = _model_path(config)
    if path is not None and not path.is_dir():
        raise pytest.UsageError(
            f"--aprqa-model: {path} is not a directory; give the directory that holds config.json"
        )
    if config.getoption("aprqa_endpoint_model") and not config.getoption("aprqa_endpoint"):
        raise pytest.UsageError("--aprqa-endpoint-model: give --aprqa-endpoint URL too")
    _endpoint(config)


def engine_choices(config: pytest.Config) -> dict[Format | None, list[str]]:
    """Names of engines by the format they are for, in the order given; None is any other."""
    from pytest_aprqa.domain.model import Format

    choices: dict[Format | None, list[str]] = {}
    for choice in config.getoption("aprqa_engine"):
        format_, _, engine = choice.rpartition("=")
        choices.setdefault(Format(format_) if format_ else None, []).append(engine)
    return choices


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


def _endpoint(config: pytest.Config) -> EndpointRef | None:
    url = config.getoption("aprqa_endpoint")
    if url is None:
        return None
    from pydantic import ValidationError

    from pytest_aprqa.domain.playbook import EndpointRef

    try:
        return EndpointRef(url=url, model=config.getoption("aprqa_endpoint_model"))
    except ValidationError:
        raise pytest.UsageError(
            "--aprqa-endpoint: expected the root of a server such as http://127.0.0.1:8000, "
            "without user, password or query: keys come from APRQA_API_KEY or OPENAI_API_KEY"
        ) from None
