"""Run a model from its portable form: architecture, weights and tokenizer from that alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.devices import find_device
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.engines.memory import require_memory
from pytest_aprqa.engines.transformers_load import (
    DTYPES,
    device_for,
    make_model,
    read_tokenizer,
    told_of,
)
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.encodings import FLOATS, encoding_of
from pytest_aprqa.formats.scratch import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_aprqa.conversion.portable import PortableModel
    from pytest_aprqa.domain.model import Backend, Format
    from pytest_aprqa.engines.transformers_engine import TransformersEngine
    from pytest_aprqa.formats.tensor import Tensor

_TORCH_NAMES = MappingProxyType({"F32": "float32", "F16": "float16", "BF16": "bfloat16"})


def load_portable(
    model: PortableModel,
    *,
    backend: Backend,
    label: str,
    file: str = "",
    threads: int | None = None,
    dtype: str | None = None,
) -> TransformersEngine:
    """Load a model with transformers from what a file of any format was read as.

    `label` says in the evidence what the weights come from (`apr`), `file` names it there and in
    messages. `dtype` None is `dtype_of(model)`.

    Raises:
        LoadFailed: config, tensors and tokenizer do not make a model.
        EngineUnavailable: this machine cannot run it: no device, no memory, no library.
    """
    from pytest_aprqa.engines.transformers_engine import TransformersEngine

    where = file or label
    dtype = dtype or dtype_of(model)
    for place in sorted({"cpu", device_for(backend, dtype)}):
        require_memory(_bytes_in_memory(model, dtype), place, where=where)
    with scratch() as directory, told_of(where, "cpu", threads):
        _write_files(model, directory)
        tokenizer = read_tokenizer(directory, where=where)
        config, generation = _configs(
            directory, has_generation="generation_config.json" in model.files
        )
    made = make_model(
        config,
        dict(_torch_tensors(model, where)),
        where=where,
        backend=backend,
        dtype=dtype,
        threads=threads,
    )
    if generation is not None:
        made.generation_config = generation
    counted = Counter(tensor.encoding for tensor in model.tensors)
    source = {
        "engine": f"transformers {version('transformers')} over {label}",
        "weights": ", ".join(f"{count} {encoding}" for encoding, count in counted.most_common()),
        **({"file": file} if file else {}),
    }
    return TransformersEngine(made, tokenizer, threads=threads, source=source)


def dtype_of(model: PortableModel) -> str:
    """The dtype that computes with the weights as they are stored.

    The weights' own when most bytes are of one plain encoding that config.json names too (norms
    and biases may have been widened to float32); float32 when they are quantized, or when
    config.json names another.
    """
    sizes: Counter[str] = Counter()
    for tensor in model.tensors:
        sizes[tensor.encoding] += tensor.nbytes
    if not sizes or any(encoding not in FLOATS for encoding in sizes):
        return "float32"
    main = _TORCH_NAMES[sizes.most_common(1)[0][0]]
    declared = model.config.get("dtype") or model.config.get("torch_dtype") or main
    return main if declared == main else "float32"


def load_portable_file(
    path: Path,
    format_: Format,
    *,
    backend: Backend,
    threads: int | None = None,
    dtype: str | None = None,
) -> TransformersEngine:
    """Load an APR or GGUF file with transformers in this process, everything from the file.

    Raises:
        LoadFailed: the file cannot be read, or what it holds does not make a model.
        EngineUnavailable: this machine lacks the device or the memory.
    """
    from pytest_aprqa.conversion.reading import read_portable

    find_device(backend)  # before a file of gigabytes is read for a device that is not there
    try:
        model = read_portable(path)
        return load_portable(
            model, backend=backend, threads=threads, dtype=dtype, label=format_, file=path.name
        )
    except (CheckpointError, ConversionError) as error:
        raise LoadFailed(one_line(error)) from error


def _bytes_in_memory(model: PortableModel, dtype: str) -> int:
    """What the weights take as they are read, with the copies of those that change their type."""
    total = 0
    for tensor in model.tensors:
        encoding = encoding_of(tensor.encoding)
        count = math.prod(tensor.shape)
        total += count * (encoding.nbytes if encoding.plain else DTYPES["float32"])
        as_read = _TORCH_NAMES.get(tensor.encoding, "float32")
        total += 0 if as_read == dtype else count * DTYPES[dtype]
    return total


def _write_files(model: PortableModel, directory: Path) -> None:
    (directory / "config.json").write_text(json.dumps(dict(model.config)), "utf-8")
    for name, data in model.files.items():
        (directory / name).write_bytes(data)


def _configs(directory: Path, *, has_generation: bool) -> tuple[Any, Any]:
    from transformers import AutoConfig, GenerationConfig

    local = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(str(directory), **local)
    if not has_generation:
        return config, None
    return config, GenerationConfig.from_pretrained(str(directory), local_files_only=True)


def _torch_tensors(model: PortableModel, where: str) -> Iterator[tuple[str, Any]]:
    """Every tensor by name, plain ones as stored and the others decoded to float32.

    Each is copied out of the file before the next is read; the model keeps these very copies.
    """
    seen: set[str] = set()
    for tensor in model.tensors:
        if tensor.name in seen:
            raise LoadFailed(f"{where}: tensor {tensor.name} occurs twice; expected it once")
        seen.add(tensor.name)
        yield tensor.name, _torch_tensor(tensor)
        tensor.done()


def _torch_tensor(tensor: Tensor) -> Any:
    import numpy as np
    import torch

    encoding = encoding_of(tensor.encoding)
    if not encoding.plain:
        return torch.from_numpy(np.ascontiguousarray(tensor.values()))
    view = "<i2" if encoding.name == "BF16" else str(encoding.view)
    values = torch.from_numpy(tensor.read().view(view).reshape(tensor.shape).copy())
    return values.view(torch.bfloat16) if encoding.name == "BF16" else values
