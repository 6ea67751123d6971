"""What the command's exit status says."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit statuses of `aprqa`, as its help lists them."""

    FINE = 0
    WRONG = 1
    """The file or the model is wrong, or the two differ."""
    USAGE = 2
    """Wrong usage, or the set-up cannot be read."""
    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT, as shells have it)."""
    PIPE_CLOSED = 141
    """Whoever read the output stopped (128 + SIGPIPE)."""


EXPLAINED = """\
exit status:
  0    fine: done, healthy, or equal within the tolerance
  1    the file or the model is wrong, or the two differ
  2    wrong usage, or something that is needed cannot be read or written
  130  interrupted by Ctrl-C
  141  the reader of the output went away
  143  ended by SIGTERM (129: SIGHUP); unfinished output is removed
"""
