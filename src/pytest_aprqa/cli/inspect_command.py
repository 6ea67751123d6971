"""`aprqa inspect`: what a model file holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_aprqa.cli.exits import Exit
from pytest_aprqa.cli.screen import Screen, write_json
from pytest_aprqa.cli.sizes import told_bytes, told_count
from pytest_aprqa.cli.sources import ACCEPTED, model_path
from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    import argparse

    from pytest_aprqa.checks.file_description import FileDescription
    from pytest_aprqa.checks.file_tokenizer import TokenizerDescription

NAME = "inspect"
HELP = "show what a model file holds"
DESCRIPTION = """\
Show a model's format, architecture, numbers, encodings, tokenizer, metadata and tensors, without
reading its weights. Where metadata are long, their length and beginning are shown; in --json a list
of more than 16 members is {"members": how many, "first": the first 8}.
"""
EXAMPLES = """\
examples:
  aprqa inspect embedded/aprqa-tiny
  aprqa inspect model.gguf --tensors
  aprqa inspect model.apr --json | jq .hyperparameters
"""
TENSORS_SHOWN = 20
_LIST_SHOWN, _LIST_BEGINNING = 16, 8
_TEMPLATE_SHOWN = 60


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The arguments of `aprqa inspect`."""
    command.add_argument("model", metavar="FILE", help=ACCEPTED)
    command.add_argument(
        "--tensors", action="store_true", help=f"list all tensors, not the first {TENSORS_SHOWN}"
    )
    command.add_argument(
        "--sha256", action="store_true", help="read the files with weights and show their SHA-256"
    )
    command.add_argument("--json", action="store_true", help="write one JSON object")


def run(chosen: argparse.Namespace) -> Exit:
    """Print the description."""
    from pytest_aprqa.checks.file_description import describe_file

    found = describe_file(model_path(chosen.model), sha256=chosen.sha256)
    if chosen.json:
        write_json(_as_json(found))
        return Exit.FINE
    screen = Screen()
    screen.pairs(_head(found))
    _section(screen, "hyper-parameters", _texts(found.hyperparameters))
    if found.encodings:
        _title(screen, "encodings")
        rows = [
            [
                share.encoding,
                str(share.tensors),
                told_bytes(share.nbytes),
                f"{100 * share.share:.1f} %",
            ]
            for share in found.encodings
        ]
        screen.table(["encoding", "tensors", "size", "share"], rows, right=["tensors", "size"])
    if found.tokenizer is not None:
        _section(screen, "tokenizer", _tokenizer(found.tokenizer))
    _section(screen, "metadata", _texts(found.metadata))
    _tensors(screen, found, everything=chosen.tensors)
    return Exit.FINE


def _head(found: FileDescription) -> dict[str, str]:
    version = f" {found.version}" if found.version else ""
    bits = found.bits_per_weight
    rows = {
        "path": str(found.path),
        "format": f"{found.format}{version}",
        "architecture": found.architecture or "not stated",
        "parameters": told_count(found.parameters),
        "tensors": str(len(found.tensors)),
        "size": told_bytes(found.nbytes) + (f", {bits:.2f} bits a weight" if bits else ""),
    }
    if len(found.files) > 1 or found.files[0].sha256:
        for file in found.files:
            digest = f"  sha256 {file.sha256}" if file.sha256 else ""
            rows[f"file {file.name}"] = told_bytes(file.nbytes) + digest
    return rows


def _title(screen: Screen, title: str) -> None:
    screen.line()
    screen.line(title, style="bold")


def _section(screen: Screen, title: str, rows: dict[str, str]) -> None:
    if rows:
        _title(screen, title)
        screen.pairs(rows, indent="  ")


def _texts(values: Any) -> dict[str, str]:
    return {one_line(name, limit=60): _told(value) for name, value in values.items()}


def _told(value: Any) -> str:
    """A value in one line; of long lists and objects the length and the beginning."""
    if isinstance(value, list | tuple):
        if len(value) > _LIST_SHOWN:
            first = ", ".join(_told(member) for member in value[:4])
            return one_line(f"{len(value)} members: {first}, …", limit=100)
        return one_line(f"[{', '.join(_told(member) for member in value)}]", limit=100)
    if isinstance(value, dict):
        return one_line(", ".join(f"{key} {_told(member)}" for key, member in value.items()))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return one_line(f"{value:.7g}" if isinstance(value, float) else value, limit=100)


def _tokenizer(found: TokenizerDescription) -> dict[str, str]:
    special = ", ".join(f"{name} {_told(number)}" for name, number in found.special.items())
    template = found.chat_template
    rows = {
        "model": found.model or "not stated",
        "vocabulary": f"{found.vocabulary:,}",
        "merges": f"{found.merges:,}",
        "special ids": special or "none stated",
        "pre-tokenizer": found.pre or "not stated",
        "chat template": "none",
    }
    if template is not None:
        beginning = one_line(template, limit=_TEMPLATE_SHOWN)
        rows["chat template"] = f"{len(template)} characters: {beginning}"
    return rows


def _tensors(screen: Screen, found: FileDescription, *, everything: bool) -> None:
    if not found.tensors:
        return
    shown = found.tensors if everything else found.tensors[:TENSORS_SHOWN]
    _title(screen, "tensors")
    rows = [
        [line.name, "x".join(map(str, line.shape)) or "one", line.encoding, f"{line.nbytes:,}"]
        for line in shown
    ]
    screen.table(["name", "shape", "encoding", "bytes"], rows, right=["bytes"])
    more = len(found.tensors) - len(shown)
    if more:
        screen.line(f"and {more} more; --tensors lists them all")


def _as_json(found: FileDescription) -> dict[str, Any]:
    return {
        "path": str(found.path),
        "format": found.format,
        "version": found.version,
        "architecture": found.architecture,
        "hyperparameters": _short(dict(found.hyperparameters)),
        "parameters": found.parameters,
        "bytes": found.nbytes,
        "bits_per_weight": found.bits_per_weight,
        "files": [
            {"name": file.name, "bytes": file.nbytes, "sha256": file.sha256} for file in found.files
        ],
        "encodings": [
            {
                "encoding": share.encoding,
                "tensors": share.tensors,
                "values": share.values,
                "bytes": share.nbytes,
                "share": share.share,
            }
            for share in found.encodings
        ],
        "tokenizer": None if found.tokenizer is None else asdict(found.tokenizer),
        "metadata": _short(dict(found.metadata)),
        "tensors": [
            {
                "name": line.name,
                "shape": line.shape,
                "encoding": line.encoding,
                "bytes": line.nbytes,
            }
            for line in found.tensors
        ],
    }


def _short(value: Any) -> Any:
    """The value with every long list as its length and its beginning."""
    if isinstance(value, dict):
        return {str(key): _short(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        if len(value) > _LIST_SHOWN:
            first = [_short(member) for member in value[:_LIST_BEGINNING]]
            return {"members": len(value), "first": first}
        return [_short(member) for member in value]
    return value if isinstance(value, str | int | float | None) else str(value)
