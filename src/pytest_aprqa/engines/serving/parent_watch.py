"""End a server's process when the parent that started it has gone."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_aprqa.conversion.child_protocol import Channel


def end_with_parent(channel: Channel) -> None:
    """Watch the parent's end of the channel; nothing more is expected from it.

    The kernel does the same by itself, but only for a parent whose main thread started the child.
    """

    def watch() -> None:
        while channel.receive() is not None:
            continue
        os._exit(1)

    threading.Thread(target=watch, name="aprqa-parent", daemon=True).start()
