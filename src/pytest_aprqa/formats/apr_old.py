"""Files that begin like APR v2 and are not: named for what they are, with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_aprqa.formats.apr_header import MAGIC
from pytest_aprqa.formats.apr_v1 import MAGIC as MAGIC_V1
from pytest_aprqa.formats.apr_v1 import describe
from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC_WHISPER = b"APR1"
MAGIC_SYNONYM = b"APR2"


def refuse_old(path: Path, start: bytes) -> None:
    """Refuse a file whose first bytes are those of an older layout; others pass.

    Raises:
        CheckpointError: for `APRN` (v1), `APR1`, `APR2`, and the body that realizar once wrote
            behind `APR` and a zero byte, where a version number of 0 or 1 has four bytes.
    """
    begins = f"{path}: begins with {start[:4]!r}"
    if start.startswith(MAGIC_V1):
        found = describe(path)
        raise CheckpointError(
            f"{path}: an APR v1 file with a {found.model_type} model ({found.payload_size} bytes, "
            f"compression {found.compression}); expected APR v2, which holds language models; "
            f"give the model's v2 file or convert its source again"
        )
    if start.startswith(MAGIC_WHISPER):
        raise CheckpointError(
            f"{begins}: an early layout of speech models or of aprender before 0.26; "
            f"expected APR v2; convert the model again from its source"
        )
    if start.startswith(MAGIC_SYNONYM):
        raise CheckpointError(
            f"{begins}, which only some readers take for APR v2; expected {MAGIC!r}; "
            f"write the file again with a current converter"
        )
    if start.startswith(MAGIC) and start[4:8] in (b"\0\0\0\0", b"\1\0\0\0"):
        raise CheckpointError(
            f"{path}: realizar's old body without metadata (version {start[4]}); "
            f"expected APR version 2; convert the model again from its source"
        )
