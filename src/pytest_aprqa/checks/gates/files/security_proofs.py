"""Dangers planted beside the embedded model that the gates over its files catch."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.files.planting import sharded
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.lab import Lab

_HEALTHY = shared("embedded model", lambda bench: bench.model_lab())
_ELF = b"\x7fELF\x02\x01\x01" + bytes(57)


def _beside(name: str, content: bytes) -> Callable[[ProofBench], Lab]:
    """One more file in the directory."""

    def make(bench: ProofBench) -> Lab:
        directory = bench.copy()
        (directory / name).write_bytes(content)
        return bench.model_lab(directory)

    return make


def _with_shard_named(name: str) -> Callable[[ProofBench], Lab]:
    def make(bench: ProofBench) -> Lab:
        def change(index: dict[str, Any]) -> None:
            index["weight_map"]["model.norm.weight"] = name

        return bench.model_lab(sharded(bench, change))

    return make


def _linked_out(bench: ProofBench) -> Lab:
    directory = bench.copy()
    outside = bench.place("secret.txt")
    outside.write_text("kept elsewhere", encoding="utf-8")
    (directory / "notes.txt").symlink_to(outside)
    return bench.model_lab(directory)


def _remote_code(bench: ProofBench) -> Lab:
    directory = bench.copy()
    there = {"AutoModelForCausalLM": "someone/else--modeling.Model"}
    bench.edit_json(directory / "config.json", lambda config: config.update(auto_map=there))
    return bench.model_lab(directory)


def _archive(bench: ProofBench) -> Lab:
    directory = bench.copy()
    with zipfile.ZipFile(directory / "assets.zip", "w") as archive:
        archive.writestr("../../outside.txt", "unpacked elsewhere")
    return bench.model_lab(directory)


def _header(change: Callable[[dict[str, Any]], bytes]) -> Callable[[ProofBench], Lab]:
    """The weights' header edited; `change` gives the bytes that follow the tensors."""

    def make(bench: ProofBench) -> Lab:
        directory = bench.copy()
        path = directory / "model.safetensors"
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        entries = json.loads(data[8 : 8 + length])
        after = change(entries)
        text = json.dumps(entries).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :] + after)
        return bench.model_lab(directory)

    return make


def _overlapping(entries: dict[str, Any]) -> bytes:
    """The key projection of layer 1 takes the bytes of layer 0's, and leaves none of its own."""
    name = "model.layers.{}.self_attn.k_proj.weight"
    entries["other"] = dict(entries[name.format(0)])
    return b""


def _huge_header(bench: ProofBench) -> Lab:
    directory = bench.copy()
    path = directory / "model.safetensors"
    with path.open("r+b") as stream:
        stream.write((1 << 40).to_bytes(8, "little"))
    return bench.model_lab(directory)


PROOFS = (
    Proof("F-SEC-PATH-001", "an index that names a shard in the directory above",
          _with_shard_named("../model.safetensors"),
          shared("embedded model in shards", lambda b: b.model_lab(sharded(b, lambda _: None)))),
    Proof("F-SEC-LINK-001", "a link to a file elsewhere", _linked_out, _HEALTHY),
    Proof("F-SEC-PICKLE-001", "a pickle with a harmless name",
          _beside("notes.dat", b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00]."), _HEALTHY),
    Proof("F-SEC-CODE-001", "a Python file", _beside("modeling.py", b"print()\n"), _HEALTHY),
    Proof("F-SEC-CODE-002", "an auto_map to another repository's code", _remote_code, _HEALTHY),
    Proof("F-SEC-EXEC-001", "a program with a harmless name", _beside("notes.dat", _ELF), _HEALTHY),
    Proof("F-SEC-ARCHIVE-001", "a zip whose member leads out of it", _archive, _HEALTHY),
    Proof("F-SEC-HEADER-001", "a header that claims a tebibyte", _huge_header, _HEALTHY),
    Proof("F-SEC-OVERLAP-001", "a tensor over the bytes of another", _header(_overlapping),
          _HEALTHY),
    Proof("F-SEC-HOLE-001", "bytes behind the last tensor", _header(lambda _: b"PK" + bytes(62)),
          _HEALTHY),
)  # fmt: skip
