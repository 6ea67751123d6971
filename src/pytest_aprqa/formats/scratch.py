"""Temporary directories that outlive no process for long, however it ends.

Each is locked by its process, and the lock ends with it: whoever makes the next one removes those
that nobody holds any more. A process that is killed can remove nothing itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "aprqa-scratch-"
_UNLOCKED = "aprqa-new-"


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory of this process's own, removed at the end with all that is in it.

    Those that killed processes of this user left behind are removed first.
    """
    _sweep(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED))
    lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
    # Locked before it has the name by which others look for it.
    fcntl.flock(lock, fcntl.LOCK_EX)
    directory = made.rename(made.with_name(made.name.replace(_UNLOCKED, _PREFIX, 1)))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _sweep(root: Path) -> None:
    for directory in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or gone in the meantime
            if directory.stat().st_uid == os.getuid():
                _remove_if_abandoned(directory)


def _remove_if_abandoned(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(descriptor)
