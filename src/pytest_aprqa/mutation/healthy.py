"""Healthy variants: the same model in other clothes, on which nothing may be falsified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.conversions import APR_QUANTIZATIONS
from pytest_aprqa.domain.model import Format, Quantization
from pytest_aprqa.formats.huggingface import open_huggingface
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor, tensors_of
from pytest_aprqa.mutation.editing import edit_json, edit_tensors

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Variant:
    """One healthy variant: a directory, or a file of a derived format."""

    name: str
    path: Path
    format: Format
    quantization: Quantization | None = None


def variants(model: Path, space: Path) -> tuple[Variant, ...]:
    """Every healthy variant of a model, made in a directory."""
    made: list[Variant] = []
    for name, change in _SOURCES.items():
        path = space / name / "model"
        shutil.copytree(model, path)
        change(path)
        made.append(Variant(name, path, Format.SAFETENSORS))
    for format_ in (Format.GGUF, Format.APR):
        for back in (None, Quantization.F32):
            made.append(_there_and_back(model, space, format_, back))
        for quantization in (None, *_quantizations(format_)):
            made.append(_derived(model, space, format_, quantization))
    return tuple(made)


LOSSY = (Quantization.Q2_K,)
"""Quantizations that are no healthy variants: a small model of two bits answers worse in truth."""


def _quantizations(format_: Format) -> tuple[Quantization, ...]:
    every = Quantization if format_ is Format.GGUF else APR_QUANTIZATIONS
    return tuple(quantization for quantization in every if quantization not in LOSSY)


def _derived(
    model: Path, space: Path, format_: Format, quantization: Quantization | None
) -> Variant:
    name = f"{format_}-{quantization or 'as-published'}"
    path = space / f"{name}.{format_}"
    convert(model, path, quantization=quantization)
    return Variant(name, path, format_, quantization)


def _there_and_back(
    model: Path, space: Path, format_: Format, quantization: Quantization | None
) -> Variant:
    name = f"back-from-{format_}{f'-{quantization}' if quantization else ''}"
    (space / name).mkdir()
    away, path = space / name / f"away.{format_}", space / name / "model"
    convert(model, away, quantization=quantization)
    convert(away, path)
    away.unlink()
    return Variant(name, path, Format.SAFETENSORS)


def _resaved(path: Path) -> None:
    edit_tensors(path, {})


def _sharded(count: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        total = sum(t.nbytes for t in open_huggingface(path).tensors.values())
        edit_tensors(path, {}, shard_bytes=total // count + 1)

    return change


def _rewritten(
    order: Callable[[list[Tensor]], list[Tensor]], **metadata: str
) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        found = [_held(t) for t in tensors_of(open_huggingface(path))]
        for old in path.glob("*.safetensors*"):
            old.unlink()
        write_safetensors(path, order(found), metadata={"format": "pt", **metadata})

    return change


def _held(tensor: Tensor) -> Tensor:
    data = tensor.read().copy()
    return replace(tensor, read=lambda: data, done=lambda: None)


def _as_dtype(encoding: str, name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        _rewritten(lambda found: [t.as_encoding(encoding) for t in found])(path)
        edit_json(path / "config.json", lambda config: config.update(dtype=name))

    return change


def _padded_header(path: Path) -> None:
    file = path / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + size] + b" " * 512
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def _json(change: Callable[[Any], str]) -> Callable[[Path], None]:
    """Every JSON file written otherwise."""

    def apply(path: Path) -> None:
        for file in path.glob("*.json"):
            content = json.loads(file.read_text(encoding="utf-8"))
            file.write_text(change(content), encoding="utf-8")

    return apply


def _template_apart(path: Path) -> None:
    settings = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = settings.pop("chat_template", None)
    if template is not None:
        (path / "chat_template.jinja").write_text(template, encoding="utf-8")
        (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _file(name: str, text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).write_text(text, encoding="utf-8")

    return change


def _config(**values: Any) -> Callable[[Path], None]:
    return lambda path: edit_json(path / "config.json", lambda config: config.update(values))


def _tied_head(path: Path) -> None:
    """The head written out, equal to the embedding it is tied to."""
    checkpoint = open_huggingface(path)
    found = [_held(t) for t in tensors_of(checkpoint)]
    embedding = next(t for t in found if t.name.endswith("embed_tokens.weight"))
    if not any(t.name == "lm_head.weight" for t in found):
        found.append(embedding.named("lm_head.weight"))
    for old in path.glob("*.safetensors*"):
        old.unlink()
    write_safetensors(path, found, metadata={"format": "pt"})


_SOURCES: dict[str, Callable[[Path], None]] = {
    "as-it-is": lambda path: None,
    "resaved": _resaved,
    "shards-2": _sharded(2),
    "shards-3": _sharded(3),
    "shards-5": _sharded(5),
    "tensors-reversed": _rewritten(lambda found: found[::-1]),
    "tensors-sorted": _rewritten(lambda found: sorted(found, key=lambda t: t.name)),
    "metadata-added": _rewritten(lambda found: found, note="for nobody"),
    "float32": _as_dtype("F32", "float32"),
    "float16": _as_dtype("F16", "float16"),
    "header-padded": _padded_header,
    "json-compact": _json(lambda content: json.dumps(content, separators=(",", ":"))),
    "json-sorted": _json(lambda content: json.dumps(content, indent=1, sort_keys=True)),
    "json-escaped": _json(lambda content: json.dumps(content, ensure_ascii=True, indent=4)),
    "template-apart": _template_apart,
    "readme-added": _file("README.md", "# A model\n"),
    "licence-added": _file("LICENSE.txt", "MIT\n"),
    "git-attributes": _file(".gitattributes", "*.safetensors filter=lfs\n"),
    "key-added": _config(some_note="for nobody"),
    "version-changed": _config(transformers_version="4.50.0"),
    "head-written-out": _tied_head,
}
