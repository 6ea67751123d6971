"""Gates of what a server takes and gives back: memory, and itself at the end."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_aprqa.checks.serve.finding import NotApplicable, Refuted
from pytest_aprqa.checks.serve.long_stream import accepted_long_body, open_long_stream
from pytest_aprqa.engines.endpoint_http import Silent

if TYPE_CHECKING:
    from pytest_aprqa.checks.serve.client import GateClient

WARM_UP = 20
"""Requests before the first look: arenas of the allocator, compiled kernels and pools grow once."""
REQUESTS = 100
SHORT_TOKENS = 4
GROWTH_BYTES = 16 * 2**20
GROWTH_SHARE = 0.05
"""Memory may grow by GROWTH_BYTES or this share, whichever is more. malloc keeps up to 64 MiB of
address space an arena, of which a warm server touches pages now and then; a server that keeps the
logits of one answer (4 tokens of a vocabulary of 128 k in float32: 2 MiB) is at 200 MiB."""
CLOSING_S = 2.0
"""What a stream and a port are given to be closed once the process is gone."""


def memory(client: GateClient) -> str:
    """Resident memory after a hundred short requests is what it was before them, nearly."""
    if client.served.memory_bytes() is None:
        raise NotApplicable("the server's memory cannot be read from here")
    route = client.routes()[0]
    prompts = client.prompts.prompts

    def ask(number: int) -> None:
        prompt = f"{number}. {prompts[number % len(prompts)]}"
        client.ask(route, prompt, max_tokens=SHORT_TOKENS)

    for number in range(WARM_UP):
        ask(number)
    before = _memory(client)
    for number in range(WARM_UP, WARM_UP + REQUESTS):
        ask(number)
    after = _memory(client)
    limit = max(GROWTH_BYTES, GROWTH_SHARE * before)
    client.measure(
        memory_before_mib=before / 2**20,
        memory_growth_mib=(after - before) / 2**20,
        memory_limit_mib=limit / 2**20,
    )
    told = (
        f"memory grew by {(after - before) / 2**20:.1f} MiB, from {before / 2**20:.1f} MiB, "
        f"in {REQUESTS} requests"
    )
    if after - before > limit:
        raise Refuted(f"{told}; expected at most {limit / 2**20:.1f} MiB")
    return told


def _memory(client: GateClient) -> int:
    found = client.served.memory_bytes()
    if found is None:
        raise NotApplicable("the server's memory can be read no more")
    return found


def shutdown(client: GateClient) -> str:
    """SIGTERM in mid-stream ends the server cleanly and in time, and its port is free."""
    served, limit = client.served, client.prompts.stop_s
    if not served.ours:
        raise NotApplicable("the server was not started here and is not stopped here")
    route = client.routes()[0]
    body = accepted_long_body(client, route)
    whole = client.prompts.timeout_s + limit
    with (
        ThreadPoolExecutor(1) as pool,
        open_long_stream(client, route, body, limit_s=whole) as stream,
    ):
        rest = pool.submit(stream.finish)
        running = not stream.finished
        stopped = served.stop(limit)
        try:
            ending = rest.result(CLOSING_S)
        except (Silent, TimeoutError) as late:
            raise Refuted(
                f"the server {stopped.how}, and its stream is still open {CLOSING_S:g} s later"
            ) from late
    client.measure(stop_seconds=stopped.seconds, stop_limit_seconds=limit)
    client.remark(f"SIGTERM in mid-stream: the server {stopped.how}; the stream was {ending}")
    if not stopped.clean or stopped.seconds > limit:
        raise Refuted(
            f"on SIGTERM in mid-stream the server {stopped.how}; expected a clean end "
            f"within {limit:g} s"
        )
    if _accepts(served.url):
        raise Refuted(f"the server {stopped.how}, and {served.url} still accepts connections")
    if not running:
        raise NotApplicable(f"the stream was over before SIGTERM; the server {stopped.how}")
    kind = ending.split(" ")[0]
    return f"the server {stopped.how} in {stopped.seconds:.2f} s; its stream was {kind}"


def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), CLOSING_S):
            return True
    except OSError:
        return False
