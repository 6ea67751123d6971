"""Giving mapped pages back, so that streaming through a large file stays small in memory."""

from __future__ import annotations

import mmap


def release_pages(mapped: mmap.mmap, offset: int, nbytes: int) -> None:
    """Drop the whole pages inside a stretch of a read-only map; they are read again if needed."""
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None:
        return  # not this system's to give back
    page = mmap.PAGESIZE
    first = -(-offset // page) * page
    last = (offset + nbytes) // page * page
    if last > first:
        mapped.madvise(advice, first, last - first)
