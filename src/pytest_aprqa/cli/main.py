"""The `aprqa` command: reads its arguments, runs one part, and says by its status how it went."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_aprqa import __version__
from pytest_aprqa.cli import (
    convert_command,
    diff_command,
    fingerprint_command,
    gates_command,
    golden_command,
    inspect_command,
    mutate_command,
    profile_command,
    serve_command,
    trace_command,
    validate_command,
)
from pytest_aprqa.cli.exits import EXPLAINED, Exit
from pytest_aprqa.domain.errors import AprqaError
from pytest_aprqa.domain.text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

_DESCRIPTION = """\
Look at language models on disk, compare, convert, measure and serve them: Hugging Face directories
(safetensors), GGUF and APR files.
"""
_EXAMPLES = """\
a model is named by
  a directory with config.json and safetensors, a .safetensors, .gguf or .apr file,
  the id of a model in the Hugging Face cache (nothing is ever downloaded),
  or embedded/aprqa-tiny, the small model inside this package

examples:
  aprqa inspect embedded/aprqa-tiny
  aprqa convert embedded/aprqa-tiny tiny.gguf --quantization q8_0
  aprqa validate tiny.gguf
  aprqa diff embedded/aprqa-tiny tiny.gguf --tolerance 0.02
  aprqa fingerprint tiny.gguf --json
  aprqa profile tiny.gguf
  aprqa trace embedded/aprqa-tiny
  aprqa serve tiny.gguf
  aprqa gates explain F-CONV-RT-001
  aprqa golden embedded/aprqa-tiny --out golden

"""
_COMMANDS = (
    convert_command,
    inspect_command,
    validate_command,
    diff_command,
    fingerprint_command,
    profile_command,
    trace_command,
    serve_command,
    gates_command,
    mutate_command,
    golden_command,
)


def parser() -> argparse.ArgumentParser:
    """The arguments of `aprqa` and of each of its commands."""
    top = argparse.ArgumentParser(
        prog="aprqa",
        description=_DESCRIPTION,
        epilog=_EXAMPLES + EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"aprqa {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=f"{module.EXAMPLES}\n{EXPLAINED}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit status: of `cli.exits.Exit`, or 128 plus a signal's."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every locale has every sign
    try:
        chosen = parser().parse_args(arguments)
    except SystemExit as stopped:  # argparse has told what is wrong, or shown the help
        return Exit.USAGE if stopped.code else Exit.FINE
    try:
        with ended_in_order():
            status = int(chosen.run(chosen))
            sys.stdout.flush()
    except EndedBySignal as ended:
        _complain(f"ended by {ended.signal.name}")
        return 128 + ended.signal
    except BrokenPipeError:
        _silence_output()
        return Exit.PIPE_CLOSED
    except KeyboardInterrupt:
        _complain("interrupted")
        return Exit.INTERRUPTED
    except AprqaError as error:
        _complain(str(error))
        return Exit.USAGE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        return Exit.USAGE
    return status


class EndedBySignal(BaseException):
    """Another process asked this one to end; nothing but clean-up is to catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: what it began is removed.

    A signal that is ignored (nohup), or handled by whoever called, stays so.

    Raises:
        EndedBySignal: when one of them came.
    """
    watched: list[signal.Signals] = []

    def end(number: int, frame: FrameType | None) -> None:
        for each in watched:  # a second one must not end the clean-up
            signal.signal(each, signal.SIG_IGN)
        raise EndedBySignal(number)

    if threading.current_thread() is threading.main_thread():  # the only one that may ask
        watched += [
            number
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is signal.SIG_DFL
        ]
    try:
        for number in watched:
            signal.signal(number, end)
        yield
    finally:
        for number in watched:
            signal.signal(number, signal.SIG_DFL)


def _complain(text: str) -> None:
    for line in text.splitlines() or [""]:
        sys.stderr.write(f"aprqa: {escaped(line)}\n")


def _silence_output() -> None:
    """Let the interpreter's last flush go nowhere: its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
