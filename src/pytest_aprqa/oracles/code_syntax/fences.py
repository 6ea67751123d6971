"""Which Markdown fences an answer holds, and whether the last one was closed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPENING = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^`\n]*$")


@dataclass(frozen=True, slots=True)
class Fence:
    """One fenced block; an unclosed one runs to the end of the text."""

    tag: str
    code: str
    closed: bool


def fences(text: str) -> tuple[Fence, ...]:
    """Return the fenced blocks of the text, in order."""
    found: list[Fence] = []
    lines: list[str] = []
    mark, tag, indent = "", "", 0
    for line in text.split("\n"):
        if not mark:
            if opening := _OPENING.match(line):
                mark, tag = opening[1], opening[2]
                indent = len(line) - len(line.lstrip())
                lines = []
            continue
        if line.strip().startswith(mark) and not line.strip().strip(mark[0]):
            found.append(Fence(tag, _without_prompts(lines), closed=True))
            mark = ""
            continue
        lines.append(line[indent:] if not line[:indent].strip() else line)
    if mark:
        found.append(Fence(tag, _without_prompts(lines), closed=False))
    return tuple(found)


def _without_prompts(lines: list[str]) -> str:
    """Return the code, of a console session only what was typed: `>>> x` and `$ ls`."""
    session = [line for line in lines if line.strip()]
    if session and session[0].startswith((">>> ", "$ ")):
        typed = [line for line in lines if line.startswith((">>> ", "... ", "$ "))]
        return "\n".join(line.split(" ", 1)[1] for line in typed)
    return "\n".join(lines)
