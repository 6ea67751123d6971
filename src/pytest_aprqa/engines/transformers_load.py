"""Load a directory of weights with transformers: local files only, and only if all of them fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.engine import LoadFailed, told
from pytest_aprqa.engines.transformers_quiet import quiet, torch_threads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

DTYPES = ("float32", "float16", "bfloat16")
"""The dtypes that a load may ask for in place of the checkpoint's own."""
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
    device = find_device(backend)
    if dtype is not None and dtype not in DTYPES:
        raise EngineUnavailable(f"unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}")
    if not (directory / "config.json").is_file():
        raise LoadFailed(f"{directory}: no config.json; expected a directory with a model's files")
    with torch_threads(threads), quiet():
        import torch

        try:
            model, tokenizer = _from_pretrained(directory, dtype)
            model.to(device)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise EngineUnavailable(
                f"{directory}: not enough memory on {device}: {told(error)}"
            ) from error
        except ImportError as error:
            raise EngineUnavailable(f"{directory}: {told(error)}") from error
        except LoadFailed:
            raise
        except Exception as error:
            raise LoadFailed(f"{directory}: {told(error)}") from error
    _require_on_device(model, device)
    return model.eval(), tokenizer


def find_device(backend: Backend) -> str:
    """The device of a backend: `cpu`, or the caller's current CUDA device.

    Raises:
        EngineUnavailable: the backend is a GPU and torch sees no CUDA device.
    """
    if backend is Backend.CPU:
        return "cpu"
    with quiet():
        import torch

        if not torch.cuda.is_available():
            raise EngineUnavailable(
                f"no CUDA device: torch {torch.__version__} sees none; "
                "run where there is one (nvidia-smi, CUDA_VISIBLE_DEVICES) or with backend cpu"
            )
        return f"cuda:{torch.cuda.current_device()}"


def _from_pretrained(directory: Path, dtype: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        str(directory), local_files_only=True, trust_remote_code=False
    )
    # Without tokenizer files transformers makes an empty tokenizer and says nothing.
    if not tokenizer("one word", add_special_tokens=False).input_ids:
        raise LoadFailed(
            f"{directory}: no usable tokenizer: text becomes no tokens; expected tokenizer.json, "
            "tokenizer.model or the model's own vocabulary files"
        )
    loader: Any = AutoModelForCausalLM
    model, found = loader.from_pretrained(
        str(directory),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype="auto" if dtype is None else getattr(torch, dtype),
        # Reported by name below; transformers' own error names no tensor.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    if problems := list(_problems(found)):
        raise LoadFailed(f"{directory}: the weights do not fit config.json: {'; '.join(problems)}")
    return model, tokenizer


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
