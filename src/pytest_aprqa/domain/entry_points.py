"""How messages name what an installed package offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def told_of_entry(entry: EntryPoint) -> str:
    """An entry point with its group, its value, and the distribution that brings it."""
    dist = entry.dist
    owner = "an unknown distribution" if dist is None else f"{dist.name} {dist.version}"
    return f"the entry point {entry.name} = {entry.value} ({entry.group}) of {owner}"
