"""Serve an ASGI application on a socket until a signal, and end it in order."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import AprqaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

GRACE_S = 10.0
"""What a running request is given to end after SIGTERM."""
CUT_S = 5.0
"""What the engine is given to end after that, which is one token's time."""
_BACKLOG = 128


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at the address; port 0 is any free one.

    Who connects before a server accepts waits for it.

    Raises:
        AprqaError: the address is taken, not allowed or no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AprqaError(f"{host}: {error.strerror or error}; expected an address") from error
    try:
        # Connections of a server that has just ended would keep the port for a minute.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(_BACKLOG)  # from here on it is nobody else's, even under that option
    except OSError as error:
        found.close()
        raise AprqaError(
            f"cannot serve on {host} port {port}: {error.strerror or error}; "
            "give another with --port (0: any free one)"
        ) from error
    return found


def url_of(bound: socket.socket) -> str:
    """The root of what is served there."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_until_signal(
    app: Any,
    bound: socket.socket,
    *,
    grace_s: float = GRACE_S,
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; then no request is taken, and those that run may finish.

    `ready` is called when the socket listens. After `grace_s` requests are cut; a second SIGINT
    cuts them at once.
    """
    server = make_server(app, grace_s, ready)
    with signals_go_to(server.handle_exit):
        server.run(sockets=[bound])


def make_server(app: Any, grace_s: float, ready: Callable[[], object] = lambda: None) -> Any:
    """A uvicorn server that leaves signals and logging to whoever runs it."""
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn sends itself the signal again when it has ended, which would be its status."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            # uvicorn takes whole seconds in its types, and any number in asyncio.wait_for.
            timeout_graceful_shutdown=grace_s,  # type: ignore[arg-type]
        )
    )


@contextmanager
def signals_go_to(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP call the handler in the block, and act as before after it.

    One that is ignored (SIGHUP under nohup) stays so.
    """
    before = {
        number: signal.signal(number, handler)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, restored in before.items():
            signal.signal(number, restored)
