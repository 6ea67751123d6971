"""The tokenizer inside a GGUF or APR file: its keys, and the files that travel with them.

Engines that know the format go by the keys, transformers by the files: both must say the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.integrity_finding import IntegrityFinding
from pytest_aprqa.checks.integrity_tokenizer import tokenizer_findings
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.tokenizers import (
    apr_tokenizer_disagreements,
    stored_files,
    stored_files_of_apr,
    tokenizer_disagreements,
)
from pytest_aprqa.conversion.tokenizers.embedded_files import NAMES_KEY
from pytest_aprqa.formats.gguf_file import GgufFile
from pytest_aprqa.formats.scratch import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_aprqa.formats.apr_file import AprFile

_Found = tuple[list[IntegrityFinding], list[str]]
_EMBEDDINGS = ("token_embd.weight", "model.embed_tokens.weight")
_TOKENS = "tokenizer.ggml.tokens"
_AS_LONG_AS_TOKENS = ("tokenizer.ggml.token_type", "tokenizer.ggml.scores")


def stored_tokenizer_findings(file: GgufFile | AprFile) -> _Found:
    """Keys against the embedding and each other, keys against files, and the files by themselves.

    The files are judged as those of a Hugging Face directory are; a file made elsewhere holds none.
    """
    findings = [_named(file, text) for text in _gguf_keys(file)]
    names = file.metadata.get(NAMES_KEY)
    if names is None:
        note = "the tokenizer's files: there are none inside to compare the tokenizer's keys with"
        return findings, [note]
    try:
        if isinstance(file, GgufFile):
            files = stored_files(file.fields)
            told = tokenizer_disagreements(files, file.fields)
        else:
            files = stored_files_of_apr(file.metadata)
            told = apr_tokenizer_disagreements(files, file.metadata)
    except ConversionError as error:
        files, told = {}, str(error).splitlines()
    if told:
        return [*findings, *(_named(file, line) for line in told)], []
    found, notes = _as_directory(files, _rows(file))
    return [*findings, *(_renamed(file, finding) for finding in found)], notes


def _named(file: GgufFile | AprFile, text: str) -> IntegrityFinding:
    name = file.path.name
    return IntegrityFinding("tokenizer", name, f"{name}: {text}")


def _renamed(file: GgufFile | AprFile, finding: IntegrityFinding) -> IntegrityFinding:
    text = f"{file.path.name}: inside of it, {finding.message}"
    return IntegrityFinding(finding.code, finding.subject, text)


def _rows(file: GgufFile | AprFile) -> int | None:
    shapes = (file.tensors[name].shape for name in _EMBEDDINGS if name in file.tensors)
    return next((shape[0] for shape in shapes if len(shape) == 2), None)


def _as_directory(files: Mapping[str, bytes], rows: int | None) -> _Found:
    """What G0 has to say of the files, as if they lay beside a config."""
    with scratch() as directory:
        for file, data in files.items():
            if "/" in file or "\\" in file or file in ("", ".", ".."):
                text = f"file {file!r:.60} leads out of a directory; expected a plain name"
                return [IntegrityFinding("tokenizer", file, text)], []
            (directory / file).write_bytes(data)
        return tokenizer_findings(directory, config={}, rows=rows)


def _gguf_keys(file: GgufFile | AprFile) -> Iterator[str]:
    """What llama.cpp would refuse, or read beyond an array's end."""
    tokens = file.metadata.get(_TOKENS)
    if not isinstance(file, GgufFile) or not isinstance(tokens, tuple):
        return
    count, rows = len(tokens), _rows(file)
    if rows not in (None, count):
        yield (
            f"{_TOKENS} has {count} entries, but {_EMBEDDINGS[0]} has {rows} rows; "
            f"expected one row for each token"
        )
    for key in _AS_LONG_AS_TOKENS:
        values = file.metadata.get(key)
        if isinstance(values, tuple) and len(values) != count:
            yield f"{key} has {len(values)} entries; expected {count}, one for each token"
    for key, value in file.metadata.items():
        named = key.startswith("tokenizer.ggml.") and key.endswith("_token_id")
        if named and not (isinstance(value, int) and 0 <= value < count):
            yield f"{key} is {value!r:.40}; expected an id below {count}"
