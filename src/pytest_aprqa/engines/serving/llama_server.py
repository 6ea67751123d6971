"""llama.cpp's own HTTP server in this process, set to answer as our engines do."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import time
import urllib.request
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.engines.choice import threads_for
from pytest_aprqa.engines.engine import LoadFailed
from pytest_aprqa.formats.checkpoint import CheckpointError
from pytest_aprqa.formats.gguf_file import GgufFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SLOTS = 4
"""Requests that are answered at once; more wait in the server's queue."""
SLOT_CONTEXT = 8192
"""Most tokens of prompt and answer together: each slot's cache of keys and values is allocated
when the model loads, so a context of 128 k would cost gigabytes that no request here needs."""
WARNINGS, INFO = 2, 3
"""How much llama.cpp logs: warnings and errors, or what each request does as well."""
LEAST_CONTEXT = 256
"""llama.cpp rounds up to multiples of this."""
_EVERY_SETTING = (1 << 12) - 1
_POLL_S = 0.02
_FLUSH_S = 2.0
"""What the last bytes of an answer are given to leave."""


class LlamaServer:
    """A GGUF file behind llama.cpp's server, which listens from construction on.

    It is never taken apart: its destructor waits for ever while a request runs, or when none has
    been asked. `end` lets requests finish, and then the process has to end.
    """

    def __init__(
        self,
        path: Path,
        *,
        model_name: str,
        threads: int | None,
        host: str = "127.0.0.1",
        port: int = 0,
        verbosity: int = WARNINGS,
    ) -> None:
        """Load the file and listen; port 0 is any free one.

        Raises:
            LoadFailed: the file is no GGUF, or llama.cpp does not take it; its log says why.
            EngineUnavailable: the bindings are missing.
        """
        try:
            import xllamacpp
        except ImportError as error:
            raise EngineUnavailable(
                f"llama.cpp's server is missing: {error}; install it with `pip install xllamacpp`"
            ) from error
        metadata = _metadata(path)
        self.context = slot_context(metadata)
        self.has_template = "tokenizer.chat_template" in metadata
        self._threads = threads_for(path, threads) or len(os.sched_getaffinity(0))
        settings = self._settings(xllamacpp, path, model_name, verbosity)
        settings.hostnames, settings.port = [host], port
        try:
            self._server = xllamacpp.Server(settings)
        except RuntimeError as error:
            raise LoadFailed(f"{path}: llama.cpp does not serve it: {error}") from error
        self.url: str = self._server.listening_address
        # Its destructor hangs when it has answered nothing; an interpreter that ends calls it.
        with urllib.request.urlopen(f"{self.url}/health", timeout=60):
            self.port = int(self.url.rpartition(":")[2])

    def describe(self) -> dict[str, str]:
        """What serves, for the evidence."""
        return {
            "engine": f"llama.cpp server (xllamacpp {version('xllamacpp')})",
            "device": "cpu",
            "threads": str(self._threads),
            "slots": str(SLOTS),
            "context": str(self.context),
            "kv_cache": "float16",
            "attention": "flash where it can",
            "chat_template": "its own" if self.has_template else "none: llama.cpp takes ChatML",
        }

    def end(self, grace_s: float, when_idle: Callable[[], object] = lambda: None) -> bool:
        """Let running requests finish, take no new ones, and tell whether all did in time.

        `when_idle` is called after the first; llama.cpp logs the second as an error.
        """
        deadline = time.monotonic() + grace_s
        while (busy := self._busy_slots()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        when_idle()
        # Only now: llama.cpp's server cuts streams as soon as it stops to listen.
        for own, listening in _sockets_at(self.port):
            if listening:
                with contextlib.suppress(OSError):
                    own.shutdown(socket.SHUT_RDWR)
            own.close()
        deadline = time.monotonic() + _FLUSH_S
        while _connected(self.port) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return not busy

    def _busy_slots(self) -> int:
        try:
            with urllib.request.urlopen(f"{self.url}/slots", timeout=5) as answer:
                return sum(bool(slot["is_processing"]) for slot in json.load(answer))
        except OSError:  # it is too busy to say
            return SLOTS

    def _settings(self, library: Any, path: Path, model_name: str, verbosity: int) -> Any:
        settings = library.CommonParams()
        settings.model.path = str(path)
        settings.model_alias = {model_name}
        settings.verbosity = verbosity
        settings.n_parallel, settings.n_ctx = SLOTS, SLOTS * self.context
        settings.n_gpu_layers, settings.fit_params = 0, False
        settings.warmup = settings.ui = False
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = self._threads
        # What one request left behind must not be in another's answer.
        settings.cache_ram_mib, settings.cache_prompt = 0, False
        settings.cache_idle_slots = False
        settings.cors_origins = ""  # no page of another site may read the answers
        # The model's text as it is, after the model's own template as it is.
        settings.use_jinja, settings.prefill_assistant = True, False
        settings.force_pure_content_parser = False  # the pure one drops blanks at the beginning
        formats = library.common_reasoning_format
        settings.reasoning_format = formats.COMMON_REASONING_FORMAT_NONE
        # A request that names only a temperature is drawn from the whole distribution.
        sampling = settings.sampling
        sampling.temp, sampling.top_k, sampling.top_p, sampling.min_p = 1.0, 0, 1.0, 0.0
        sampling.penalty_repeat, sampling.typ_p = 1.0, 1.0
        sampling.user_sampling_config = _EVERY_SETTING  # nor do the file's own defaults act
        return settings


def slot_context(metadata: Mapping[str, Any]) -> int:
    """How many tokens one request may have: the model's own context, at most `SLOT_CONTEXT`."""
    own = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if not isinstance(own, int) or own <= 0:
        return SLOT_CONTEXT
    return max(LEAST_CONTEXT, min(own, SLOT_CONTEXT))


def _metadata(path: Path) -> Mapping[str, Any]:
    try:
        return GgufFile.open(path).metadata
    except CheckpointError as error:
        raise LoadFailed(str(error)) from error


def _sockets_at(port: int) -> Iterator[tuple[socket.socket, bool]]:
    """Copies of this process's sockets at a local port, and whether each is listening."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (names of descriptors, not files)
        try:
            if not stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                continue
            own = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # closed in the meantime
            continue
        try:
            here = own.family in (socket.AF_INET, socket.AF_INET6) and own.getsockname()[1] == port
            listening = bool(own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:
            here = listening = False
        if here:
            yield own, listening
        else:
            own.close()


def _connected(port: int) -> bool:
    found = list(_sockets_at(port))
    for own, _ in found:
        own.close()
    return any(not listening for _, listening in found)
