"""Load a directory of weights with transformers: local files only, and only if all of them fit."""

from __future__ import annotations

import math
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.devices import find_device
from pytest_aprqa.engines.engine import LoadFailed, told
from pytest_aprqa.engines.memory import is_out_of_memory, require_memory
from pytest_aprqa.engines.transformers_quiet import quiet, torch_threads
from pytest_aprqa.formats.huggingface import survey_huggingface

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_aprqa.domain.model import Backend

DTYPES = MappingProxyType({"float32": 4, "float16": 2, "bfloat16": 2})
"""The dtypes that a load may ask for in place of the checkpoint's own, and bytes per value."""
SHOWN = 3
"""Tensor names a message shows of each kind of mismatch."""


def load_model(
    directory: Path, *, backend: Backend, dtype: str | None, threads: int | None
) -> tuple[Any, Any]:
    """The model, in evaluation mode on the backend's device, and its tokenizer.

    Raises:
        LoadFailed: the files do not make a model.
        EngineUnavailable: this machine cannot run it: no device, no memory, no library.
    """
    device = device_for(backend, dtype)
    if not (directory / "config.json").is_file():
        raise LoadFailed(f"{directory}: no config.json; expected a directory with a model's files")
    for place in sorted({"cpu", device}):  # the weights pass through the machine's own memory
        require_memory(_bytes_in_memory(directory, dtype), place, where=str(directory))
    with told_of(str(directory), device, threads):
        tokenizer = read_tokenizer(directory, where=str(directory))
        from transformers import AutoModelForCausalLM

        model = _read_model(AutoModelForCausalLM, str(directory), dtype, where=str(directory))
        model.to(device)
    _require_on_device(model, device)
    return model.eval(), tokenizer


def make_model(
    config: Any,
    tensors: Mapping[str, Any],
    *,
    where: str,
    backend: Backend,
    dtype: str,
    threads: int | None,
) -> Any:
    """The model that a configuration and torch tensors make, in evaluation mode on the device.

    `where` begins the messages.

    Raises:
        LoadFailed: the tensors do not fit the configuration: one is missing, say.
        EngineUnavailable: this machine cannot run it: no device, no memory, no library.
    """
    device = device_for(backend, dtype)
    with told_of(where, device, threads):
        import torch
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):  # Auto takes no model without a name: ask it for the class
            untyped: Any = AutoModelForCausalLM
            kind = type(untyped.from_config(config, trust_remote_code=False))
        model = _read_model(kind, None, dtype, where=where, config=config, state_dict=dict(tensors))
        model.to(device)
    _require_on_device(model, device)
    return model.eval()


@contextmanager
def told_of(where: str, device: str, threads: int | None) -> Iterator[None]:
    """Torch and transformers stay quiet in the block, and what goes wrong is told in one line.

    Raises:
        LoadFailed: anything; the message begins with `where`.
        EngineUnavailable: there is no memory or no library for it.
    """
    with torch_threads(threads), quiet():
        try:
            yield
        except ImportError as error:
            raise EngineUnavailable(f"{where}: {told(error)}") from error
        except (LoadFailed, EngineUnavailable):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise EngineUnavailable(
                    f"{where}: not enough memory on {device}: {told(error)}"
                ) from error
            raise LoadFailed(f"{where}: {told(error)}") from error


def device_for(backend: Backend, dtype: str | None) -> str:
    """The device that a load on this backend uses.

    Raises:
        EngineUnavailable: there is none, or no such dtype.
    """
    device = find_device(backend)
    if dtype is not None and dtype not in DTYPES:
        raise EngineUnavailable(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    return device


def _bytes_in_memory(directory: Path, dtype: str | None) -> int:
    """What the weights will take; files that cannot be read count nothing, the load tells why."""
    checkpoint, _problems = survey_huggingface(directory)
    if dtype is None:
        return sum(info.nbytes for info in checkpoint.tensors.values())
    size = DTYPES[dtype]
    return sum(math.prod(info.shape) * size for info in checkpoint.tensors.values())


def read_tokenizer(directory: Path, *, where: str) -> Any:
    """The tokenizer in a directory.

    Raises:
        LoadFailed: it makes no tokens of text.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        str(directory), local_files_only=True, trust_remote_code=False
    )
    # Without tokenizer files transformers makes an empty tokenizer and says nothing.
    if not tokenizer("one word", add_special_tokens=False).input_ids:
        raise LoadFailed(
            f"{where}: no usable tokenizer: text becomes no tokens; expected tokenizer.json, "
            "tokenizer.model or the model's own vocabulary files"
        )
    return tokenizer


def _read_model(loader: Any, name: str | None, dtype: str | None, *, where: str, **own: Any) -> Any:
    import torch

    model, found = loader.from_pretrained(
        name,
        **own,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype="auto" if dtype is None else getattr(torch, dtype),
        # Reported by name below; transformers' own error names no tensor.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if problems := list(_problems(found)):
        raise LoadFailed(f"{where}: the weights do not fit config.json: {'; '.join(problems)}")
    return model


def _problems(found: Mapping[str, Any]) -> Iterable[str]:
    """What transformers only warns of: a model with random or forgotten tensors."""
    if missing := found["missing_keys"]:
        yield f"{len(missing)} missing ({_some(missing)})"
    if unexpected := found["unexpected_keys"]:
        yield f"{len(unexpected)} unexpected ({_some(unexpected)})"
    if mismatched := found["mismatched_keys"]:
        shapes = (
            f"{name} is {_shape(stored)}, config says {_shape(wanted)}"
            for name, stored, wanted in mismatched
        )
        yield f"{len(mismatched)} of another shape ({_some(shapes)})"
    if errors := found["error_msgs"]:
        yield "; ".join(" ".join(str(error).split()) for error in errors[:SHOWN])


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:SHOWN]) + (", …" if len(ordered) > SHOWN else "")


def _shape(dimensions: Iterable[int]) -> str:
    return "x".join(map(str, dimensions))


def _require_on_device(model: Any, device: str) -> None:
    elsewhere = {str(p.device) for p in model.parameters()} - {device}
    if elsewhere:
        raise EngineUnavailable(
            f"asked for {device}, but weights are on {', '.join(sorted(elsewhere))}"
        )
