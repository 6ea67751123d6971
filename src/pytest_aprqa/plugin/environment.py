"""What machine and which libraries a run used, for its evidence."""

from __future__ import annotations

import os
import platform
from importlib import metadata

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


def threads_per_worker() -> int:
    """This process's share of the cores that it may use: xdist's workers divide them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return max(1, (cores or 1) // workers)


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
