"""Output that appears under its name only when it is complete, whatever interrupts its writing.

A draft lies beside the final name as `.NAME.PID-RANDOM.draft`, so that the last step is a rename
within one file system. Its writer holds a lock on it, which ends with the process however that
ends: by the lock, the next writer of the same name tells an abandoned draft from a live one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DRAFT, _OLD = "draft", "old"
# What a write to an open file may fail with; the error then names no file.
_REFUSALS = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS),
        *(errno.EACCES, errno.EPERM, errno.ESTALE, errno.ENOMEM),
    )
)


class UnwritableError(CheckpointError):
    """The system refuses to write a file: no space, a limit, no permission."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be written: {reason}")
        self.reason = reason


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A draft to write to; it becomes `path` when the block ends without an exception.

    The content is on the disk before the name is. What `path` was before stays until then.

    Raises:
        CheckpointError: when nothing can be written there, the disk is full, or the draft is
            gone at the end.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: is a directory; expected the name of a file to write")
    _sweep(path)
    draft, lock = _name(path), None
    try:
        lock = _claim(draft, path, directory=False)
        with writing(draft, path):
            yield draft
            _require(draft, path, draft.is_file())
            _sync(draft)
            _rename(draft, path)
            _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)
        _close(lock)


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A draft directory to fill; it becomes `path` when the block ends without an exception.

    With `replace`, a directory that is there already survives until the new one is complete.

    Raises:
        CheckpointError: when `path` holds files and `replace` is not set, is no directory, or
            cannot be written.
    """
    _sweep(path)
    _require_free(path, replace=replace)
    draft, lock = _name(path), None
    try:
        lock = _claim(draft, path, directory=True)
        with writing(draft, path):
            yield draft
            _require(draft, path, draft.is_dir())
            _sync_tree(draft)
            _require_free(path, replace=replace)
            _swap_in(draft, path)
            _sync(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        _close(lock)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """A directory beside `path` for what is needed while it is written; gone at the end.

    What a killed process leaves is removed when `path` is next written.

    Raises:
        CheckpointError: when nothing can be written there.
    """
    space, lock = _name(path), None
    try:
        lock = _claim(space, path, directory=True)
        yield space
    finally:
        shutil.rmtree(space, ignore_errors=True)
        _close(lock)


@contextmanager
def writing(draft: Path, path: Path) -> Iterator[None]:
    """Tells that `path` cannot be written when the system refuses to write to `draft`.

    Errors that are not of this writing (another file's, a closed pipe) pass through.

    Raises:
        UnwritableError: naming `path`, with the system's reason.
    """
    try:
        yield
    except UnwritableError as error:  # of a writer inside, which knows only the draft's name
        raise UnwritableError(path, error.reason) from error
    except OSError as error:
        if error.filename is None:
            ours = error.errno in _REFUSALS
        else:
            ours = Path(os.fsdecode(error.filename)).is_relative_to(draft)
        if not ours:
            raise
        raise UnwritableError(path, error.strerror or str(error)) from error


def _require_free(path: Path, *, replace: bool) -> None:
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise CheckpointError(f"{path}: is no directory; expected the name of one to write")
    if not replace and any(path.iterdir()):
        raise CheckpointError(
            f"{path}: holds files already; expected a new or empty directory; "
            f"remove it or ask for its replacement"
        )


def _require(draft: Path, path: Path, there: bool) -> None:
    if not there:
        raise CheckpointError(f"{path}: its draft {draft.name} is gone; nothing was written")


def _swap_in(draft: Path, path: Path) -> None:
    """Rename the draft to its final name; what was there steps aside first and is kept by name."""
    if not path.exists() or not any(path.iterdir()):
        _rename(draft, path)
        return
    old = draft.with_suffix(f".{_OLD}")
    _rename(path, old)
    try:
        _rename(draft, path)
    except BaseException:
        if not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _name(path: Path) -> Path:
    """A draft's name, which is nobody else's."""
    # Known before the draft is made: an interrupt between its making and its use leaves none.
    return path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.{_DRAFT}"


def _claim(draft: Path, path: Path, *, directory: bool) -> int:
    """Make an empty draft; the open descriptor that locks it."""
    while True:
        try:
            if directory:
                draft.mkdir()
                lock = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
            else:
                lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
        # A sweep by another process may have come between the two steps: then begin again.
        if _locked(lock) is not False and os.path.lexists(draft):
            return lock
        os.close(lock)
        if os.path.lexists(draft):
            raise CheckpointError(f"{path}: its draft {draft.name} is locked by another process")


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _locked(descriptor: int) -> bool | None:
    """Whether the lock is ours now; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _sweep(path: Path) -> None:
    """Remove what dead writers of this name left; an old directory they had set aside returns."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)-[0-9a-f]{{8}}\.({_DRAFT}|{_OLD})")
    try:
        names = os.listdir(path.parent)  # noqa: PTH208 - names are all that is needed
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror}") from error
    for name in names:
        match = pattern.fullmatch(name)
        if match and (match[1] == str(os.getpid()) or not _alive(int(match[1]))):
            _remove_abandoned(path.parent / name, path, old=match[2] == _OLD)


def _remove_abandoned(left: Path, path: Path, *, old: bool) -> None:
    try:
        lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return  # its writer removed it in the meantime, or it is not ours to remove
    try:
        if _locked(lock) is False:
            return  # a live writer, whose process is not seen from here (another container)
        if old and not path.exists():
            left.rename(path)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's process
    return True


def _rename(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror}") from error


def _sync_tree(directory: Path) -> None:
    for parent, _, names in os.walk(directory):
        for name in names:
            file = os.path.join(parent, name)  # noqa: PTH118 - os.walk gives texts
            if not os.path.islink(file):  # noqa: PTH114
                _sync(file)
        _sync(parent)


def _sync(path: Path | str) -> None:
    """Have the file's or directory's content written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
