"""Memory and throughput of converting a sharded model of 4 GB: goal under 1 GB at its peak.

Each conversion is a process of its own, and follows a `cp` of the same source on the same disk:
both end with the bytes on the disk (fsync), both read the source from the page cache where it fits.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_aprqa
from pytest_aprqa.conversion.portable import TOKENIZER_FILES
from pytest_aprqa.formats.encodings import encode
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor

EMBEDDED = Path(pytest_aprqa.__file__).parent / "models" / "aprqa-tiny"
SHARD_BYTES = 1_000_000_000
LAYER_BYTES = 354_000_000
SAMPLE_S = 0.02
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    # More than the tokenizer's 1024: the rest is padding, as many models have it.
    "vocab_size": 8192,
    "bos_token_id": 1021,
    "eos_token_id": 1023,
    "pad_token_id": 1021,
}


@dataclass(frozen=True)
class Measured:
    """One command: how long it took and the most memory that it had."""

    seconds: float
    cpu_seconds: float
    """Of all its processes and threads: other work on the machine does not lengthen it."""
    peak: int
    """Bytes, ru_maxrss of the largest of its processes: mapped pages of files count."""
    own: int
    """Bytes that all its processes had at once without the pages of mapped files, sampled."""


def main() -> None:
    """Make the model, measure, print a table, remove everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where about 20 GB are free; left empty")
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the model")
    parser.add_argument("--only-make", action="store_true", help="write the model there, no more")
    chosen = parser.parse_args()
    if chosen.only_make:
        layers = max(1, round((chosen.gigabytes * 1e9 - 134e6) / LAYER_BYTES))
        make_model(chosen.directory, layers=layers)
        return
    with tempfile.TemporaryDirectory(dir=chosen.directory) as name:
        _measure(Path(name), chosen.gigabytes)


def _measure(space: Path, gigabytes: float) -> None:
    model = space / "model"
    # Not in this process: what it had in memory would count in the ru_maxrss of its children.
    make = [sys.executable, __file__, str(model), "--only-make", "--gigabytes", str(gigabytes)]
    subprocess.run(make, check=True)
    size = size_of(model)
    shards = len(list(model.glob("*.safetensors")))
    print(f"{size / 1e9:.2f} GB in {shards} shards, {os.cpu_count()} cores\n")
    print("| | written | s | MB/s | `cp` MB/s | CPU s | peak | of that own |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, options in (
        ("again.gguf", ()),
        ("again.apr", ()),
        ("q8_0.gguf", ("-q", "q8_0")),
        ("q4_k_m.gguf", ("-q", "q4_k_m")),
        ("q8_0.apr", ("-q", "q8_0")),
        ("q4_k_m.apr", ("-q", "q4_k_m")),
    ):
        with removed(space / name) as made:
            what = " ".join(("to", made.suffix[1:], *options[1:]))
            convert(what, model, made, *options, "--no-cache")
            if name in ("again.gguf", "q4_k_m.gguf"):
                with removed(space / "back") as back:
                    kind = " ".join(("gguf", *options[1:]))
                    convert(f"{kind} to a directory", made, back, "--no-cache")
    cache = {"APRQA_CACHE": str(space / "cache")}
    for what in ("to gguf, kept in the cache", "to gguf, found in the cache"):
        with removed(space / "again.gguf") as made:
            convert(what, model, made, variables=cache)


def convert(
    what: str, source: Path, made: Path, *options: str, variables: dict[str, str] | None = None
) -> None:
    """One line of the table: `cp` of a source, then `aprqa convert` of it."""
    size = size_of(source)
    with removed(made.with_name("copied")) as copied:
        copy = run([sys.executable, "-c", COPY, str(source), str(copied)], {})
    command = [sys.executable, "-m", "pytest_aprqa.cli", "convert", str(source), str(made)]
    taken = run([*command, *options], variables or {})
    rate, copied_rate = (size / 1e6 / measured.seconds for measured in (taken, copy))
    print(
        f"| {what} | {size_of(made) / 1e9:.2f} GB | {taken.seconds:.1f} | {rate:.0f} "
        f"| {copied_rate:.0f} | {taken.cpu_seconds:.1f} | {taken.peak / 1e6:.0f} MB "
        f"| {taken.own / 1e6:.0f} MB |",
        flush=True,
    )


COPY = """
import os, pathlib, subprocess, sys
subprocess.run(["cp", "-r", "--reflink=never", sys.argv[1], sys.argv[2]], check=True)
copied = pathlib.Path(sys.argv[2])
for path in copied.iterdir() if copied.is_dir() else [copied]:
    with path.open() as stream:
        os.fsync(stream.fileno())
"""


def make_model(directory: Path, *, layers: int) -> None:
    """Write a Llama with random BF16 weights and the embedded model's tokenizer."""
    import numpy as np

    directory.mkdir()
    width, inner, vocabulary = 4096, 11008, 8192
    shapes = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for layer in range(layers):
        start = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", width, width),
            ("self_attn.k_proj", 1024, width),
            ("self_attn.v_proj", 1024, width),
            ("self_attn.o_proj", width, width),
            ("mlp.gate_proj", inner, width),
            ("mlp.up_proj", inner, width),
            ("mlp.down_proj", width, inner),
        ):
            shapes[f"{start}{name}.weight"] = (rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{start}{name}.weight"] = (width,)
    shapes["lm_head.weight"] = (vocabulary, width)

    def tensor(number: int, name: str, shape: tuple[int, ...]) -> Tensor:
        def read() -> Any:
            if len(shape) == 1:
                return encode("BF16", np.ones(shape, np.float32))
            values = np.random.default_rng(number).standard_normal(shape, np.float32)
            return encode("BF16", values * np.float32(0.02))

        return Tensor(name, "BF16", shape, read)

    tensors = [tensor(number, *item) for number, item in enumerate(shapes.items())]
    write_safetensors(directory, tensors, metadata={"format": "pt"}, shard_bytes=SHARD_BYTES)
    config = json.dumps({**CONFIG, "num_hidden_layers": layers}, indent=1)
    (directory / "config.json").write_text(config, encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (EMBEDDED / name).is_file():
            shutil.copyfile(EMBEDDED / name, directory / name)


def run(command: Sequence[str], variables: dict[str, str]) -> Measured:
    """Run a command to its end, watching the memory of it and of its children."""
    began = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)
    most = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            most[0] = max(most[0], sum(own_bytes(pid) for pid in family(process.pid)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        over.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Measured(
        time.perf_counter() - began,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
        most[0],
    )


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # it has ended
            continue
        for child in children:
            yield from family(int(child))


def own_bytes(pid: int) -> int:
    """Resident memory of a process that is no mapped file: RssAnon and RssShmem of its status."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(
        int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:"))
    )


@contextmanager
def removed(path: Path) -> Iterator[Path]:
    """A file or directory that is removed afterwards, its sidecar too."""
    try:
        yield path
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.provenance.json").unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of the files in a directory."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
