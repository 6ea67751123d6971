from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_aprqa.cli.main import main
from pytest_aprqa.formats.gguf_field import GgufField, array, float32, string, uint32
from pytest_aprqa.formats.gguf_writer import write_gguf
from tests.checks.model_files import TOKENS, gguf_fields, raw_tensor, tensor, write_model
from tests.cli.conftest import Run, Terminal

TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


def gguf_file(path: Path) -> Path:
    """A GGUF file with numbers, a tokenizer and two encodings."""
    fields = gguf_fields() | {
        "general.architecture": string("qwen2"),
        "qwen2.block_count": uint32(2),
        "qwen2.embedding_length": uint32(32),
        "qwen2.attention.head_count": array("int32", [4, 4]),
        "qwen2.attention.head_count_kv": array("int32", [2, 1]),
        "qwen2.attention.layer_norm_rms_epsilon": float32(1e-6),
        "qwen2.rope.freq_base": float32(1e6),
        "qwen2.rope.scaling.type": string("yarn"),
        "tokenizer.ggml.merges": array("string", ["t he", "c at"]),
        "tokenizer.ggml.pre": string("qwen2"),
        "tokenizer.ggml.padding_token_id": uint32(5),
        "tokenizer.chat_template": string(TEMPLATE),
    }
    values = np.arange(64, dtype=np.float32).reshape(2, 32)
    tensors = [
        tensor("output_norm.weight", np.ones(32)),
        raw_tensor("blk.0.ffn_up.weight", "Q8_0", (64, 32), bytes(64 * 34)),
        tensor("blk.1.ffn_up.weight", values, "F16"),
    ]
    write_gguf(path, fields=fields, tensors=tensors)
    return path


def section(lines: list[str], title: str) -> list[str]:
    """The lines from a title to the next empty line."""
    start = lines.index(title) + 1
    rest = lines[start:]
    return rest[: rest.index("")] if "" in rest else rest


def test_a_directory_is_described(run: Run, tiny: Path) -> None:
    ran = run("inspect", "embedded/aprqa-tiny")
    assert (ran.status, ran.err) == (0, "")
    size = (tiny / "model.safetensors").stat().st_size
    assert ran.lines[:6] == [
        f"path          {tiny}",
        "format        safetensors",
        "architecture  qwen2",
        "parameters    1,936,256 (1.94 million)",
        "tensors       38",
        f"size          {size / 1e6:.3g} MB, 16.00 bits a weight",
    ]
    assert section(ran.lines, "hyper-parameters") == [
        "  layers             3",
        "  hidden_size        256",
        "  intermediate_size  512",
        "  attention_heads    8",
        "  key_value_heads    2",
        "  vocabulary_size    1024",
        "  context_length     512",
        "  rope_theta         10000",
        "  norm_epsilon       1e-06",
        "  tied_embeddings    true",
    ]
    tokenizer = section(ran.lines, "tokenizer")
    assert tokenizer[:5] == [
        "  model          BPE",
        "  vocabulary     1,024",
        "  merges         765",
        "  special ids    bos 1021, eos [1023, 1021], pad 1021",
        "  pre-tokenizer  Split, ByteLevel",
    ]
    assert tokenizer[5].startswith("  chat template  198 characters: {% for message in messages")
    assert "  sliding_window           null" in section(ran.lines, "metadata")
    assert ran.lines[-1] == "and 18 more; --tensors lists them all"
    assert len(section(ran.lines, "tensors")) == 1 + 20 + 1
    assert "sha256" not in ran.out


def test_all_tensors_are_listed_when_asked_for(run: Run) -> None:
    lines = section(run("inspect", "embedded/aprqa-tiny", "--tensors").lines, "tensors")
    assert len(lines) == 1 + 38
    assert lines[0].split() == ["name", "shape", "encoding", "bytes"]
    assert lines[-1].split() == ["model.norm.weight", "256", "BF16", "512"]


def test_the_digest_is_read_only_when_asked_for(run: Run, tiny: Path) -> None:
    digest = hashlib.sha256((tiny / "model.safetensors").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in run("inspect", tiny, "--sha256").out
    (file,) = run("inspect", tiny, "--sha256", "--json").json["files"]
    assert file == {
        "name": "model.safetensors",
        "bytes": (tiny / "model.safetensors").stat().st_size,
        "sha256": digest,
    }
    assert run("inspect", tiny, "--json").json["files"][0]["sha256"] is None


def test_a_gguf_file_is_described_in_the_same_words(run: Run, tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "m.gguf")
    found = run("inspect", path, "--json").json
    assert list(found) == [
        *("path", "format", "version", "architecture", "hyperparameters", "parameters", "bytes"),
        *("bits_per_weight", "files", "encodings", "tokenizer", "metadata", "tensors"),
    ]
    assert (found["format"], found["version"], found["architecture"]) == ("gguf", "3", "qwen2")
    assert found["hyperparameters"] == {
        "layers": 2,
        "hidden_size": 32,
        "attention_heads": 4,
        "key_value_heads": [2, 1],
        "rope_theta": 1e6,
        "rope_scaling": "yarn",
        "norm_epsilon": pytest.approx(1e-6),
    }
    assert found["tokenizer"] == {
        "model": "gpt2",
        "vocabulary": 8,
        "merges": 2,
        "pre": "qwen2",
        "special": {"pad": 5, "eos": 7},
        "chat_template": TEMPLATE,
    }
    assert found["parameters"] == 32 + 64 * 32 + 64
    assert found["encodings"] == [
        {"encoding": "Q8_0", "tensors": 1, "values": 2048, "bytes": 2176, "share": 2176 / 2432},
        {"encoding": "F16", "tensors": 1, "values": 64, "bytes": 128, "share": 128 / 2432},
        {"encoding": "F32", "tensors": 1, "values": 32, "bytes": 128, "share": 128 / 2432},
    ]
    assert found["bits_per_weight"] == 8 * 2432 / 2144
    assert found["tensors"][1] == {
        "name": "blk.0.ffn_up.weight",
        "shape": [64, 32],
        "encoding": "Q8_0",
        "bytes": 2176,
    }
    assert found["metadata"]["tokenizer.ggml.tokens"] == list(TOKENS)
    assert found["bytes"] == path.stat().st_size


def test_long_lists_are_shortened(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    words = [f"t{n}" for n in range(100)]
    fields: dict[str, GgufField] = {
        "general.architecture": string("x"),
        "tokenizer.ggml.tokens": array("string", words),
    }
    write_gguf(path, fields=fields, tensors=[tensor("w", [1.0])])
    short = run("inspect", path, "--json").json["metadata"]["tokenizer.ggml.tokens"]
    assert short == {"members": 100, "first": words[:8]}
    shown = section(run("inspect", path).lines, "metadata")
    assert "  tokenizer.ggml.tokens  100 members: t0, t1, t2, t3, …" in shown


def test_an_apr_file_is_described(run: Run, tmp_path: Path) -> None:
    numbers = {"hidden_size": 32, "num_layers": 1, "rope_theta": 10000.0, "chat_template": "T"}
    path = write_model(
        tmp_path, "apr", fields=numbers | {"tokenizer.eos_token_id": 7, "tokenizer.model": "gpt2"}
    )
    found = run("inspect", path, "--json").json
    assert (found["format"], found["version"], found["architecture"]) == ("apr", "2.0", None)
    assert found["hyperparameters"] == {"layers": 1, "hidden_size": 32, "rope_theta": 10000.0}
    assert found["tokenizer"] == {
        "model": "gpt2",
        "vocabulary": 8,
        "merges": 0,
        "pre": None,
        "special": {"eos": 7},
        "chat_template": "T",
    }
    assert "architecture  not stated" in run("inspect", path).out


def test_an_apr_v1_file_is_described(run: Run, tmp_path: Path) -> None:
    metadata, payload = b"\x81\xa1a\x01", b"12345"
    header = struct.pack(
        "<4sBBHIIIBBB9s", b"APRN", 1, 0, 2, len(metadata), len(payload), 5, 0, 0, 0, bytes(9)
    )
    body = header + metadata + payload
    path = tmp_path / "old.apr"
    path.write_bytes(body + struct.pack("<I", zlib.crc32(body)))
    found = run("inspect", path, "--json").json
    assert (found["format"], found["version"]) == ("apr v1", "1.0")
    assert found["architecture"] == "LogisticRegression"
    assert found["hyperparameters"]["payload_bytes"] == 5
    assert found["metadata"] == {"a": 1}
    assert (found["tensors"], found["tokenizer"]) == ([], None)
    assert "format        apr v1 1.0" in run("inspect", path).lines


def test_a_lone_safetensors_file_is_described(run: Run, tiny: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny / "model.safetensors", tmp_path / "m.safetensors"))
    found = run("inspect", path, "--json").json
    assert (found["architecture"], found["tokenizer"], found["hyperparameters"]) == (None, None, {})
    assert (found["parameters"], found["metadata"]) == (1_936_256, {"format": "pt"})


def test_what_is_damaged_is_told_with_status_2(run: Run, tiny: Path, tmp_path: Path) -> None:
    path = gguf_file(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:100])
    ran = run("inspect", path)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"aprqa: {path}: ")
    assert len(ran.err.splitlines()) == 1
    directory = Path(shutil.copytree(tiny, tmp_path / "model"))
    (directory / "config.json").write_text(json.dumps([1]))
    ran = run("inspect", directory)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (f"aprqa: {directory}/config.json: holds a JSON list; expected an object\n")


def test_a_split_model_is_one_model_of_several_files(run: Run, tmp_path: Path) -> None:
    split = {"split.count": GgufField("uint16", 2), "split.tensors.count": GgufField("int32", 3)}
    tensors = [tensor(f"blk.{n}.w", np.full((2, 2), n + 1)) for n in range(3)]
    paths = [tmp_path / f"m-0000{n}-of-00002.gguf" for n in (1, 2)]
    for number, (path, part) in enumerate(zip(paths, (tensors[:1], tensors[1:]), strict=True)):
        own = split | {"split.no": GgufField("uint16", number)}
        keys = gguf_fields() if number == 0 else {"general.architecture": string("unheard-of")}
        write_gguf(path, fields=keys | own, tensors=part)
    for path in paths:
        found = run("inspect", path, "--json").json
        assert [file["name"] for file in found["files"]] == [path.name for path in paths]
        assert found["bytes"] == sum(path.stat().st_size for path in paths)
        assert [tensor["name"] for tensor in found["tensors"]] == ["blk.0.w", "blk.1.w", "blk.2.w"]
    lines = run("inspect", paths[1]).lines
    assert f"file {paths[0].name}  {paths[0].stat().st_size} B" in " ".join(lines)


def test_a_terminal_gets_colours_and_the_same_words(
    run: Run, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run("inspect", "embedded/aprqa-tiny").out
    monkeypatch.setattr("sys.stdout", terminal)
    assert main(["inspect", "embedded/aprqa-tiny"]) == 0
    told = terminal.getvalue()
    assert "\x1b[1mtokenizer" in told
    words = re.sub(r"\x1b\[[0-9;]*m|[─]", "", told).split()
    assert words == plain.split()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", {"model": {"vocab": {"a": [1]}, "merges": 3}, "added_tokens": 1e9}),
        ("tokenizer.json", {"model": [], "added_tokens": [1, {"id": []}], "pre_tokenizer": 3}),
        ("tokenizer.json", {"model": {"type": 1, "vocab": [["a", -1.5], []]}}),
        ("tokenizer_config.json", {"chat_template": [{"name": "default"}]}),
        ("config.json", {"rope_parameters": {"rope_theta": "x", "type": []}, "hidden_size": {}}),
        ("config.json", {}),
    ],
)
def test_odd_files_are_described_as_far_as_they_go(
    run: Run, tiny: Path, tmp_path: Path, file: str, content: Any
) -> None:
    directory = Path(shutil.copytree(tiny, tmp_path / "model"))
    (directory / file).write_text(json.dumps(content))
    for options in ([], ["--json"]):
        ran = run("inspect", directory, *options)
        assert (ran.status, ran.err) == (0, "")
    assert len(ran.json["tensors"]) == 38
