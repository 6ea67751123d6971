"""Which device a backend means here, and whether an engine really runs on it."""

from __future__ import annotations

import os
import platform
import re
from typing import TYPE_CHECKING

from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend
from pytest_aprqa.engines.transformers_quiet import quiet

if TYPE_CHECKING:
    from pytest_aprqa.engines.engine import Engine

GPU_DEVICES = ("cuda", "mps")
"""How the name of a device that is a GPU begins; ROCm's builds of torch say `cuda` too."""
WORKER = "PYTEST_XDIST_WORKER"
"""Environment variable of a worker of xdist: `gw0`, `gw1`, …"""


def find_device(backend: Backend) -> str:
    """The device of a backend: `cpu`, `cuda:N` of what the caller made visible, or `mps`.

    Alone it is torch's current CUDA device. Workers of xdist share the visible ones out: worker N
    takes number N modulo their count. CUDA_VISIBLE_DEVICES is the caller's and stays as it is.

    Raises:
        EngineUnavailable: the backend is a GPU and torch sees none.
    """
    if backend is Backend.CPU:
        return "cpu"
    with quiet():
        import torch

        if torch.cuda.is_available():
            worker = worker_number()
            if worker is None:
                return f"cuda:{torch.cuda.current_device()}"
            return f"cuda:{worker % torch.cuda.device_count()}"
        if torch.backends.mps.is_available():
            return "mps:0"
        raise EngineUnavailable(
            f"no CUDA device: torch {torch.__version__} sees none; "
            "run where there is one (nvidia-smi, CUDA_VISIBLE_DEVICES) or with backend cpu"
        )


def worker_number() -> int | None:
    """Which worker of xdist this process is; None when it is none."""
    found = re.fullmatch(r"gw(\d+)", os.environ.get(WORKER, ""))
    return int(found[1]) if found else None


def may_have_mps() -> bool:
    """Whether this is a machine whose GPU torch can use by MPS; answers without torch."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def require_device(engine: Engine, backend: Backend) -> None:
    """Refuse an engine that does not run where it was asked to: no CPU ever fills a GPU's cell.

    Raises:
        EngineUnavailable: its weights are elsewhere; the engine has been closed.
    """
    on_gpu = engine.device.startswith(GPU_DEVICES)
    right = on_gpu if backend is Backend.GPU else engine.device == "cpu"
    if not right:
        engine.close()
        raise EngineUnavailable(
            f"asked for backend {backend}, but {engine.name} {engine.version} holds the weights on "
            f"{engine.device}; expected {'a GPU' if backend is Backend.GPU else 'cpu'}; "
            "nothing it answers counts for that cell"
        )
