"""What people see: tables with colours on a terminal, plain aligned text everywhere else."""

from __future__ import annotations

import json
import math
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO

from pytest_aprqa.domain.text import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# Names of tensors have at most a few hundred characters.
_WIDER_THAN_ANY = 100_000


def is_fancy(stream: TextIO) -> bool:
    """Whether colours and moving lines are wanted there: a terminal, and no NO_COLOR.

    https://no-color.org: any text in NO_COLOR turns colours off. TERM=dumb has none.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Screen:
    """Writes to standard output; every text is made safe for a terminal first."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._console: Any = None
        if is_fancy(self._stream):
            from rich.console import Console

            # Cut to the terminal's width, names could neither be read nor copied.
            self._console = Console(
                file=self._stream,
                markup=False,
                highlight=False,
                emoji=False,
                width=_WIDER_THAN_ANY,
            )

    def line(self, text: str = "", *, style: str = "") -> None:
        """One line of text; `style` (`bold`, `green`, `red`) is for terminals only."""
        safe = escaped(text)
        if self._console is None:
            self._stream.write(f"{safe}\n")
        else:
            self._console.print(safe, style=style or None, soft_wrap=True)

    def pairs(self, rows: Mapping[str, str], *, indent: str = "") -> None:
        """Names and values in two columns."""
        width = max(map(_width, rows), default=0)
        for name, value in rows.items():
            self.line(f"{indent}{_padded(name, width)}  {value}")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
    ) -> None:
        """A table; the columns named in `right` hold numbers."""
        safe = [[escaped(cell) for cell in row] for row in rows]
        if self._console is not None:
            self._rich_table(columns, safe, right)
            return
        lines = [list(columns), *safe]
        widths = [max(_width(line[place]) for line in lines) for place in range(len(columns))]
        for line in lines:
            cells = [
                _padded(cell, width, right=name in right)
                for cell, width, name in zip(line, widths, columns, strict=True)
            ]
            self._stream.write("  ".join(cells).rstrip() + "\n")

    def _rich_table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]
    ) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name in columns:
            table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)


def write_json(value: Any, stream: TextIO | None = None) -> None:
    """One JSON document, keys in the order given; what is not finite becomes null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    # A lone surrogate is text in Python and in JSON's escapes, but in no UTF-8 stream.
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    (sys.stdout if stream is None else stream).write(f"{safe}\n")


def _finite(value: Any) -> Any:
    """The value with None for every NaN and infinity, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(member) for member in value]
    return value


def _width(text: str) -> int:
    """How many columns a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def _padded(text: str, width: int, *, right: bool = False) -> str:
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap
