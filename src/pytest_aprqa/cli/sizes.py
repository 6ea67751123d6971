"""Numbers of bytes, values and seconds in words for people."""

from __future__ import annotations

_BYTES = ("B", "kB", "MB", "GB", "TB", "PB")
_COUNTS = ("", " thousand", " million", " billion", " trillion")


def told_bytes(count: float) -> str:
    """Bytes in decimal units, as disks and hubs give them: `12.3 MB`."""
    return _scaled(count, _BYTES, " ")


def told_count(count: int) -> str:
    """A count with its digits grouped and its size in words: `1,234,567 (1.23 million)`."""
    return f"{count:,}" if count < 1_000_000 else f"{count:,} ({_scaled(count, _COUNTS, '')})"


def told_rate(nbytes: int, seconds: float) -> str:
    """Bytes in a second; nothing where the time is too short to tell."""
    return f"{told_bytes(nbytes / seconds)}/s" if seconds > 1e-3 else ""


def _scaled(count: float, units: tuple[str, ...], gap: str) -> str:
    size, place = float(count), 0
    while size >= 999.5 and place < len(units) - 1:
        size, place = size / 1000, place + 1
    return f"{count:.0f}{gap}{units[0]}" if not place else f"{size:.3g}{gap}{units[place]}"
