"""The engines of this package as providers, so that `--aprqa-engine` can name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.domain.model import Backend, Format

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.domain.case import Target
    from pytest_aprqa.engines.engine import Engine


class TransformersProvider:
    """transformers for every format; for GGUF on the CPU a second opinion beside llama.cpp's."""

    name = "transformers"

    def why_not(self, target: Target) -> str | None:
        """It lacks a device, or nothing."""
        from pytest_aprqa.engines.choice import why_unavailable

        return why_unavailable(target)

    def load(self, target: Target, path: Path, *, threads: int | None) -> Engine:
        """Load the directory, or what the APR or GGUF file alone holds."""
        from pytest_aprqa.engines.choice import load_engine, load_file, threads_for

        if target.format is Format.GGUF and target.backend is not None:
            allowed = threads_for(path, threads)
            return load_file(path, target.format, backend=target.backend, threads=allowed)
        return load_engine(target, path, threads=threads)


class LlamaCppProvider:
    """llama.cpp, for GGUF on the CPU."""

    name = "llama.cpp"

    def why_not(self, target: Target) -> str | None:
        """The target is in another format, or on a GPU."""
        if target.format is not Format.GGUF:
            return f"it runs gguf files, not {target.format}"
        if target.backend is not Backend.CPU:
            return "it runs on the CPU only, as it is built here"
        return None

    def load(self, target: Target, path: Path, *, threads: int | None) -> Engine:
        """Load the GGUF file in a child process."""
        from pytest_aprqa.engines.choice import load_engine

        return load_engine(target, path, threads=threads)
