"""Files beside the weights that are missing, or not what their names say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_aprqa.checks.gates.lab import Lab

_HEALTHY = shared("embedded model", lambda bench: bench.model_lab())
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def _instead(name: str, content: bytes | None) -> Callable[[ProofBench], Lab]:
    """Another content for a file, or none."""

    def make(bench: ProofBench) -> Lab:
        directory = bench.copy()
        (directory / name).unlink()
        if content is not None:
            (directory / name).write_bytes(content)
        return bench.model_lab(directory)

    return make


PROOFS = (
    Proof("F-VALID-COMPANION-001", "no tokenizer.json", _instead("tokenizer.json", None), _HEALTHY),
    Proof("F-VALID-POINTER-001", "a Git LFS pointer for the weights",
          _instead("model.safetensors", _POINTER), _HEALTHY),
    Proof("F-VALID-TYPE-001", "an error page for generation_config.json",
          _instead("generation_config.json", b"<html>404</html>"), _HEALTHY),
)  # fmt: skip
