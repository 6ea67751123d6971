"""`aprqa convert`, ended at many moments by a signal: the final name is whole or not there."""

from __future__ import annotations

import hashlib
import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.model import Quantization
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor
from tests.conversion.files import companions, tiny

LAYERS, HIDDEN, INNER, HEADS, KEY_HEADS, TOKENS = 2, 1024, 4096, 8, 2, 1024
KV = HIDDEN // HEADS * KEY_HEADS
_SHAPES = {
    "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
    "self_attn.k_proj.weight": (KV, HIDDEN),
    "self_attn.v_proj.weight": (KV, HIDDEN),
    "self_attn.q_proj.bias": (HIDDEN,),
    "self_attn.k_proj.bias": (KV,),
    "self_attn.v_proj.bias": (KV,),
    "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
    "mlp.gate_proj.weight": (INNER, HIDDEN),
    "mlp.up_proj.weight": (INNER, HIDDEN),
    "mlp.down_proj.weight": (HIDDEN, INNER),
    "input_layernorm.weight": (HIDDEN,),
    "post_attention_layernorm.weight": (HIDDEN,),
}
# The signal, and what part of all that is written beside the final name must be there first.
MOMENTS = [
    (signal.SIGINT, 0.0),
    (signal.SIGKILL, 0.1),
    (signal.SIGTERM, 0.25),
    (signal.SIGINT, 0.4),
    (signal.SIGKILL, 0.55),
    (signal.SIGTERM, 0.7),
    (signal.SIGINT, 0.85),
    (signal.SIGKILL, 1.0),
]
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
TARGETS = {
    "gguf": ("m.gguf", None),
    "apr": ("m.apr", None),
    "directory": ("m", None),
    "quantized": ("m.gguf", Quantization.Q8_0),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of 63 MB, noise in the embedded model's shape, that takes a while to write."""
    directory = tmp_path_factory.mktemp("large") / "large"
    directory.mkdir()
    config = json.loads((tiny() / "config.json").read_bytes()) | {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "vocab_size": TOKENS,
        "layer_types": ["full_attention"] * LAYERS,
    }
    for name, data in companions(tiny()).items():
        (directory / name).write_bytes(data)
    (directory / "config.json").write_text(json.dumps(config))
    noise = np.random.default_rng(5).standard_normal(HIDDEN * INNER, np.float32)
    bits = (noise.view(np.uint32) >> 16).astype("<u2").view(np.uint8)  # BF16
    shapes = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in _SHAPES.items()}

    def noise_of(name: str, shape: tuple[int, ...]) -> Tensor:
        return Tensor(name, "BF16", shape, lambda: bits[: 2 * math.prod(shape)])

    tensors = [noise_of(name, shape) for name, shape in shapes.items()]
    write_safetensors(directory, tensors, metadata={"format": "pt"})
    yield directory
    shutil.rmtree(directory)


@dataclass
class Running:
    """One conversion in a process of its own, and when it is to be ended."""

    place: Path
    target: Path
    process: subprocess.Popen[bytes]
    number: signal.Signals
    after: float
    before: dict[str, str] | None
    signalled: bool = False

    def look(self, total: int) -> bool:
        """Send the signal when it is due; whether that is done, or can no longer be."""
        if self.process.poll() is not None:
            return True
        written = hidden_bytes(self.place)
        if written is not None and written >= self.after * total:
            self.process.send_signal(self.number)
            self.signalled = True
        return self.signalled


def hidden_bytes(place: Path) -> int | None:
    """Bytes in drafts and scratch directories; None while there are none."""
    found: int | None = None
    for parent, _, names in os.walk(place):
        inside = any(part.startswith(".") for part in Path(parent).relative_to(place).parts)
        found = (found or 0) if inside else found
        for name in names:
            if inside or name.startswith("."):
                try:
                    found = (found or 0) + os.stat(f"{parent}/{name}").st_size  # noqa: PTH116
                except FileNotFoundError:
                    continue  # renamed in the meantime
    return found


def hidden(place: Path) -> list[str]:
    """Drafts and scratch directories that are there."""
    return sorted(p.name for p in place.rglob(".*"))


def content(path: Path) -> dict[str, str] | None:
    """Digests of a file, or of a directory's files but for the provenance; None when absent."""
    if not path.exists():
        return None
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.name != "provenance.json"
    }


def start(
    source: Path,
    place: Path,
    kind: str,
    number: signal.Signals,
    after: float,
    *options: str,
) -> Running:
    """Begin a conversion, over a healthy small one when `options` say so."""
    name, quantization = TARGETS[kind]
    target = place / name
    place.mkdir()
    if "--replace" in options:
        convert(tiny(), target)
    before = content(target)
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "pytest_aprqa.cli",
                "convert",
                str(source),
                str(target),
                *options,
            ),
            *(() if quantization is None else ("-q", quantization.value)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "APRQA_CACHE": str(place / "cache")},
    )
    return Running(place, target, process, number, after, before)


def finish(running: list[Running], total: int) -> None:
    """Signal each when it is due, and wait until all have ended."""
    waiting = list(running)
    while waiting := [each for each in waiting if not each.look(total)]:
        select.select([], [], [], 0.001)  # leaves the processor to them
    for each in running:
        each.process.wait(60)


def check(each: Running, new: dict[str, str]) -> None:
    """The final name, the status and what is left beside it."""
    found = content(each.target)
    status = each.process.returncode
    if status == 0:  # the signal came too late
        assert found == new
    else:
        assert status == STATUS[each.number]
        assert each.signalled
        allowed = [each.before, new]
        if each.number is signal.SIGKILL and each.before is not None and each.target.suffix == "":
            allowed.append(None)  # between two renames; the next conversion brings it back
        assert found in allowed
    if each.number is not signal.SIGKILL:
        assert hidden(each.place) == []


@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_conversion_that_is_ended_leaves_nothing_partial(
    large: Path, tmp_path: Path, kind: str
) -> None:
    name, quantization = TARGETS[kind]
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    convert(large, whole, quantization=quantization)
    new = content(whole)
    assert new is not None
    total = sum(file.stat().st_size for file in whole.parent.rglob("*") if file.is_file())
    if quantization is not None:  # the plain file that it is made of
        total += (large / "model.safetensors").stat().st_size
    shutil.rmtree(whole.parent)
    ended = leftovers = 0
    for turn in range(0, len(MOMENTS), 4):  # four at a time
        running = [
            start(large, tmp_path / str(number), kind, *MOMENTS[number], *_options(number))
            for number in range(turn, turn + 4)
        ]
        finish(running, total)
        for each in running:
            check(each, new)
            ended += each.process.returncode != 0
            if left := hidden(each.place):
                leftovers += 1
                convert(tiny(), each.target, replace=True)
                assert hidden(each.place) == [], left
            shutil.rmtree(each.place)
    assert ended >= len(MOMENTS) // 2
    assert leftovers >= 1


def _options(number: int) -> list[str]:
    return ["--no-cache"] + ["--replace"] * (number // 2 % 2)


def test_an_ended_conversion_through_the_cache_leaves_nothing_partial(
    large: Path, tmp_path: Path
) -> None:
    """What a killed one leaves in the cache is swept by the next of the same model."""
    whole = tmp_path / "whole.gguf"
    convert(large, whole)
    new, total = content(whole), whole.stat().st_size
    assert new is not None
    whole.unlink()
    running = [
        start(large, tmp_path / number.name, "gguf", number, 0.3, "--replace") for number in STATUS
    ]
    finish(running, total)
    for each in running:
        check(each, {"m.gguf": new["whole.gguf"]})
    assert any(each.process.returncode for each in running)
    killed = running[-1]
    again = subprocess.run(
        killed.process.args,
        env={**os.environ, "APRQA_CACHE": str(killed.place / "cache")},
        capture_output=True,
        check=True,
    )
    assert again.stderr == b""
    assert content(killed.target) == {"m.gguf": new["whole.gguf"]}
    assert hidden(killed.place) == []
