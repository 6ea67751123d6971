"""What machine and which libraries a run used, for its evidence."""

from __future__ import annotations

import os
import platform
from collections.abc import MutableMapping
from importlib import metadata

from pytest_aprqa.engines.torch_host import THREAD_VARIABLES

"""What OpenMP, Intel's MKL and OpenBLAS ask for their number of threads."""

_LIBRARIES = (
    "pytest-aprqa",
    "pytest",
    "pytest-xdist",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "gguf",
    "cyllama",
    "numpy",
    "hypothesis",
)


def describe_host() -> dict[str, str]:
    """Operating system, processor and Python of this machine; no name of host or user."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(os.cpu_count() or 0),
        "python": platform.python_version(),
    }


def describe_libraries() -> dict[str, str]:
    """Installed versions of the libraries that decide a result, without importing them."""
    return {name: version for name in _LIBRARIES if (version := _version(name)) is not None}


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_worker() -> int:
    """This process's share of the cores that it may use: xdist's workers divide them."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, cores() // workers)


def share_out_threads(environ: MutableMapping[str, str] = os.environ) -> None:
    """Tell the numeric libraries, and child processes, how many threads a worker may start.

    They read it when they are loaded, and take every core otherwise. What the user has set stands.
    """
    for name in THREAD_VARIABLES:
        environ.setdefault(name, str(threads_per_worker()))


def engine_line() -> str:
    """The engines in one line, such as `transformers 5.1 (torch 2.9), llama.cpp (cyllama 0.2)`."""
    versions = describe_libraries()
    transformers = versions.get("transformers", "missing")
    torch, cyllama = versions.get("torch", "missing"), versions.get("cyllama", "missing")
    return f"transformers {transformers} (torch {torch}), llama.cpp (cyllama {cyllama})"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            for line in stream:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor()
    return platform.processor()
