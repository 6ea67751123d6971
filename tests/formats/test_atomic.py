"""Drafts become the final name when they are complete, and only then."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pytest_aprqa.formats import atomic
from pytest_aprqa.formats.apr_writer import write_apr_container
from pytest_aprqa.formats.atomic import UnwritableError, atomic_directory, atomic_file
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_field import string
from pytest_aprqa.formats.gguf_writer import write_gguf
from pytest_aprqa.formats.safetensors_writer import write_safetensors
from pytest_aprqa.formats.tensor import Tensor

DEAD = "4194999"  # beyond the largest process id of Linux (2**22)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_file_appears_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"before")
    with atomic_file(path) as draft:
        assert draft.parent == path.parent
        assert draft.name.startswith(f".model.gguf.{os.getpid()}-")
        draft.write_bytes(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after"
    assert names(tmp_path) == ["model.gguf"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_interrupted_file_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with atomic_file(path) as draft:
            draft.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["model.gguf"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_interrupted_directory_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with atomic_directory(tmp_path / "model") as draft:
            (draft / "config.json").write_text("{}")
            (draft / "deeper").mkdir()
            raise error

    with pytest.raises(error):
        interrupted()
    assert names(tmp_path) == []


def test_directory_appears_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()  # an empty one is no obstacle
    with atomic_directory(path) as draft:
        (draft / "deeper").mkdir()
        (draft / "deeper" / "a").write_text("a")
        assert names(path) == []
    assert (path / "deeper" / "a").read_text() == "a"
    assert names(tmp_path) == ["model"]


def test_full_directory_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a").write_text("mine")
    with (
        pytest.raises(CheckpointError, match="model: holds files already; expected a new or empty"),
        atomic_directory(tmp_path / "model"),
    ):
        pytest.fail("the work must not begin")
    assert names(tmp_path) == ["model"]


def test_directory_filled_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model"

    def overtaken() -> None:
        with atomic_directory(path) as draft:
            (draft / "a").write_text("ours")
            path.mkdir()
            (path / "a").write_text("theirs")

    with pytest.raises(CheckpointError, match="holds files already"):
        overtaken()
    assert (path / "a").read_text() == "theirs"
    assert names(tmp_path) == ["model"]


def test_directory_is_replaced_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with atomic_directory(path, replace=True) as draft:
        (draft / "new").write_text("new")
        assert names(path) == ["old"]
    assert names(path) == ["new"]
    assert names(tmp_path) == ["model"]
    with pytest.raises(ValueError, match="stop"), atomic_directory(path, replace=True):
        raise ValueError("stop")
    assert names(path) == ["new"]


def test_old_directory_returns_when_the_swap_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    rename, calls = atomic._rename, []

    def second_fails(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise CheckpointError("disk gone")
        rename(source, target)

    monkeypatch.setattr(atomic, "_rename", second_fails)
    with pytest.raises(CheckpointError, match="disk gone"), atomic_directory(path, replace=True):
        pass
    assert names(path) == ["old"]
    assert names(tmp_path) == ["model"]


def test_killed_writer_is_swept_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    script = (
        "import os, sys, signal; from pathlib import Path\n"
        "from pytest_aprqa.formats.atomic import atomic_file, atomic_directory\n"
        f"with atomic_file(Path({str(path)!r})) as draft, "
        f"atomic_directory(Path({str(tmp_path / 'dir')!r})) as folder:\n"
        "    draft.write_bytes(b'half'); (folder / 'x').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert len(left) == 2
    assert all(name.endswith(".draft") for name in left)
    with atomic_file(tmp_path / "other.gguf") as draft:
        draft.write_bytes(b"")
    assert set(left) < set(names(tmp_path))  # another name's drafts are not ours
    with atomic_file(path) as draft, atomic_directory(tmp_path / "dir"):
        draft.write_bytes(b"whole")
        assert not set(left) & set(names(tmp_path))
    assert names(tmp_path) == ["dir", "model.gguf", "other.gguf"]


def test_directory_set_aside_by_a_killed_writer_returns(tmp_path: Path) -> None:
    aside = tmp_path / f".model.{DEAD}-0123abcd.old"
    aside.mkdir()
    (aside / "a").write_text("old")
    with pytest.raises(CheckpointError, match="holds files already"):
        atomic_directory(tmp_path / "model").__enter__()
    assert (tmp_path / "model" / "a").read_text() == "old"
    assert names(tmp_path) == ["model"]


def test_live_writers_keep_their_drafts(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with atomic_file(path) as one, atomic_file(path) as two:
        assert one != two
        one.write_bytes(b"one")
        two.write_bytes(b"two")
    assert path.read_bytes() == b"one"  # the last to finish
    other = tmp_path / f".model.gguf.{os.getppid()}-0123abcd.draft"
    other.write_bytes(b"of a living process")
    with atomic_file(path) as draft:
        draft.write_bytes(b"")
    assert other.exists()


def test_locked_draft_of_an_unseen_process_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with atomic_file(path) as draft:
        unseen = tmp_path / f".model.gguf.{DEAD}-0123abcd.draft"
        draft.rename(unseen)  # as a writer in another container would have it
        with atomic_file(path) as second:
            second.write_bytes(b"2")
        assert unseen.exists()
        unseen.rename(draft)
    assert names(tmp_path) == ["model.gguf"]


def test_vanished_draft_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with (
        pytest.raises(CheckpointError, match=r"model\.gguf: its draft .* is gone"),
        atomic_file(path) as draft,
    ):
        draft.unlink()
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_disk_that_takes_no_more_is_told_once(tmp_path: Path, number: int) -> None:
    told = f"m: cannot be written: {os.strerror(number)}"
    path = tmp_path / "m"

    def to_file() -> None:
        with atomic_file(path) as draft:
            draft.write_bytes(b"half")
            raise OSError(number, os.strerror(number))

    def to_directory() -> None:
        with atomic_directory(path) as draft:
            (draft / "a").write_bytes(b"half")
            raise OSError(number, os.strerror(number), str(draft / "a"))

    with pytest.raises(UnwritableError) as caught:
        to_file()
    assert str(caught.value) == f"{tmp_path}/{told}"
    with pytest.raises(UnwritableError) as caught:
        to_directory()
    assert str(caught.value) == f"{tmp_path}/{told}"
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error",
    [
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        FileNotFoundError(errno.ENOENT, "No such file", "source.safetensors"),
        PermissionError(errno.EACCES, "Permission denied", "source.safetensors"),
    ],
)
def test_what_is_no_fault_of_the_writing_is_not_said_to_be(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(type(error)) as caught, atomic_file(tmp_path / "m"):
        raise error
    assert caught.value is error
    assert names(tmp_path) == []


def big(name: str) -> Tensor:
    return Tensor(name, "F32", (300, 1000), lambda: np.zeros(1_200_000, np.uint8))


def gguf_to(path: Path) -> None:
    write_gguf(path, fields={"general.architecture": string("x")}, tensors=[big("a"), big("b")])


def apr_to(path: Path) -> None:
    write_apr_container(path, b"{}", [big("a"), big("b")])


def safetensors_to(path: Path) -> None:
    with atomic_directory(path) as draft:
        write_safetensors(draft, [big("a"), big("b")], metadata={}, shard_bytes=1_300_000)


def safetensors_in_place(path: Path) -> None:
    path.mkdir(exist_ok=True)
    write_safetensors(path, [big("a"), big("b")], metadata={})


@pytest.fixture
def short_files() -> Iterator[None]:
    """Files of at most a million bytes; more is refused as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("write", [gguf_to, apr_to, safetensors_to, safetensors_in_place])
@pytest.mark.usefixtures("short_files")
def test_each_writer_says_that_nothing_more_can_be_written(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    with pytest.raises(CheckpointError) as caught:
        write(tmp_path / "m")
    why = "File too large"
    if write is gguf_to:  # NumPy keeps the system's reason to itself
        why = r"the disk takes no more bytes: 1200000 requested and 9\d{5} written"
    assert re.fullmatch(f"{tmp_path}/m: cannot be written: {why}", str(caught.value))
    assert names(tmp_path) == (["m"] if write is safetensors_in_place else [])


def test_impossible_targets_are_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="folder: is a directory; expected the name of a fi"):
        atomic_file(tmp_path / "folder").__enter__()
    with pytest.raises(CheckpointError, match="file: is no directory; expected the name of one"):
        atomic_directory(tmp_path / "file").__enter__()
    with pytest.raises(CheckpointError, match="x: cannot be written: No such file or directory"):
        atomic_file(tmp_path / "nowhere" / "x").__enter__()
    with pytest.raises(CheckpointError, match="x: cannot be written: Not a directory"):
        atomic_directory(tmp_path / "file" / "x").__enter__()
