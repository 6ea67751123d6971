"""Keep torch and transformers quiet, and torch's settings ours, during one call only."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars of transformers in the block; all restored after."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.utils import logging as transformers_logging

        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity(logging.ERROR)
        try:
            with _no_bars(transformers_logging):
                yield
        finally:
            transformers_logging.set_verbosity(verbosity)


@contextmanager
def _no_bars(transformers_logging: Any) -> Iterator[None]:
    if hasattr(transformers_logging, "set_tqdm_hook"):
        hook = transformers_logging.set_tqdm_hook(_no_bar)
        try:
            yield
        finally:
            transformers_logging.set_tqdm_hook(hook)
        return
    # Before 5.5 there is only a switch, which switches huggingface_hub's bars as well.
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


class _NoBar:
    """A progress bar that shows nothing."""

    def __init__(self, iterable: Any = ()) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(self._iterable)

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_kwargs: None


def _no_bar(_factory: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _NoBar:
    return _NoBar(*args[:1]) if args else _NoBar(kwargs.get("iterable", ()))


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Torch computes with this many threads in the block; None leaves its setting alone."""
    import torch

    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int | None, device: str) -> Iterator[None]:
    """Torch draws from this seed on the CPU and on `device` in the block, then as if never.

    None is for a block that draws nothing.
    """
    if seed is None:
        yield
        return
    import torch

    on_cuda = device.startswith("cuda")
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        # torch.manual_seed would also seed the devices that fork_rng does not put back.
        torch.default_generator.manual_seed(seed % 2**63)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed % 2**63)
        yield
