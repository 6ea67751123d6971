"""The config inside a GGUF or APR file against the format's own keys and against the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import IntegrityFinding
from pytest_aprqa.conversion.families import (
    config_from_apr,
    config_from_gguf,
    family_of_gguf,
    huggingface_tensors,
    tensors_from_apr,
)
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.stored_config import stored_config, stored_config_problems
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.tensor import tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from pytest_aprqa.formats.apr_file import AprFile

_Found = tuple[list[IntegrityFinding], list[str]]


def config_findings(file: GgufFile | AprFile) -> _Found:
    """Where config, keys and tensors contradict each other; what could not be judged.

    A file without a config inside, made elsewhere, is judged by its own keys alone, as far as
    the table of its family knows them.
    """
    try:
        stored = stored_config(file)
        if isinstance(file, GgufFile):
            return _gguf(file, stored)
        return _apr(file, stored)
    except (ConversionError, CheckpointError) as error:
        return _findings(file, str(error).splitlines()), []


def _findings(file: GgufFile | AprFile, problems: Iterable[str]) -> list[IntegrityFinding]:
    name = file.path.name
    return [IntegrityFinding("config", name, f"{name}: {problem}") for problem in problems]


def _gguf(file: GgufFile, config: Mapping[str, Any] | None) -> _Found:
    try:
        family_of_gguf(file.fields)
    except ConversionError as error:
        return [], [f"keys against tensors: {error}"]
    if config is None:
        return _gguf_alone(file)
    problems = stored_config_problems(file, config)
    if not problems:  # ties and rope factors, which take reading values
        huggingface_tensors(config, tensors_of(file), {})
    return _findings(file, problems), []


def _gguf_alone(file: GgufFile) -> _Found:
    """A file made elsewhere: what is wrong with its tensors, and which keys are not known."""

    def values(name: str) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.concatenate([np.empty(0, np.float32), *file.float32_chunks(name)])

    try:
        config = config_from_gguf(file.fields, file.tensors, values)
    except ConversionError as error:
        lines = str(error).splitlines()
        wrong = [line for line in lines if line.startswith("tensor ")]
        return _findings(file, wrong), [
            f"keys against tensors: {line}" for line in lines if line not in wrong
        ]
    huggingface_tensors(config, tensors_of(file), {})
    return [], []


def _apr(file: AprFile, config: Mapping[str, Any] | None) -> _Found:
    if config is None:
        try:
            config = config_from_apr(file.metadata, file.tensors)
        except ConversionError as error:
            return [], [f"metadata against tensors: {error}"]
    problems = stored_config_problems(file, config)
    if not problems:
        tensors_from_apr(config, tensors_of(file), {})
    return _findings(file, problems), []
