"""The config inside a GGUF or APR file against the format's own keys and against the tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import IntegrityFinding
from pytest_aprqa.conversion.families import (
    apr_fields,
    config_disagreements,
    config_from_apr,
    config_from_gguf,
    family_of_gguf,
    huggingface_tensors,
    tensors_from_apr,
)
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.formats.checkpoint import CheckpointError, parse_json_object
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.tensor import tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

    from pytest_aprqa.formats.apr_file import AprFile

CONFIG_KEY = "aprqa.config"
"""The GGUF key that holds config.json as text."""
_Found = tuple[list[IntegrityFinding], list[str]]
# What a float64 keeps of a float32 that was printed and read again.
_FLOAT_TOLERANCE = 1e-6


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


def stored_config(file: GgufFile | AprFile) -> Mapping[str, Any] | None:
    """config.json as the file carries it; None when it carries none.

    Raises:
        CheckpointError: when it is no JSON object.
    """
    if isinstance(file, GgufFile):
        text = file.metadata.get(CONFIG_KEY)
        if text is None:
            return None
        where = f"{file.path}: {CONFIG_KEY}"
        if not isinstance(text, str):
            raise CheckpointError(f"{where}: is no text; expected a JSON object as text")
        return parse_json_object(text.encode(), where=where)
    config = file.metadata.get("hf_config")
    if config is not None and not isinstance(config, dict):
        raise CheckpointError(f"{file.path}: hf_config is no object; expected config.json in it")
    return config


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
    problems = config_disagreements(config, file.fields, file.tensors)
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
    problems = [
        f"{key} is {file.metadata.get(key)!r:.80}; config.json makes it {value!r:.80}"
        for key, value in apr_fields(config).items()
        if not _same(file.metadata.get(key), value)
    ]
    if not problems:
        tensors_from_apr(config, tensors_of(file), {})
    return _findings(file, problems), []


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and type(found) in (int, float):
        return bool(abs(found - expected) <= _FLOAT_TOLERANCE * abs(expected))
    return bool(found == expected and isinstance(found, bool) == isinstance(expected, bool))
