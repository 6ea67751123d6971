"""A GGUF file loaded by llama.cpp in this process: what the child behind the engine holds."""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.engine import InvalidRequest, LoadFailed, NoChatTemplate, told
from pytest_aprqa.engines.generation import (
    Watch,
    encodable,
    picker,
    require_room,
    require_sane,
    require_start,
    require_tokens,
)
from pytest_aprqa.engines.llamacpp_batch import Pass, Slot, answer_slots, passes
from pytest_aprqa.engines.llamacpp_template import ChatTemplate
from pytest_aprqa.engines.llamacpp_text import TokenText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

BATCH = 512
"""Tokens computed at once; llama.cpp's default micro-batch."""
_F32, _F16 = 0, 1  # ggml_type of the cache of keys and values
_FLASH_AUTO, _FLASH_OFF = -1, 0  # llama_flash_attn_type
_ERROR = 4  # ggml_log_level
_NO_MEMORY = re.compile(r"unable to allocate|failed to allocate|out of memory|bad_alloc", re.I)


class Log:
    """The last lines that llama.cpp logged as errors."""

    def __init__(self, library: Any) -> None:
        self._lines: deque[str] = deque(maxlen=20)
        library.set_log_callback(self._note)

    def _note(self, level: int, text: str) -> None:
        if level == _ERROR and text.strip():
            self._lines.append(text.strip())

    def take(self) -> str:
        """The errors since the last time, without those that only say that there were some."""
        lines = list(self._lines)
        self._lines.clear()
        telling = [line for line in lines if "failed to load model" not in line] or lines
        return "; ".join(line.rpartition("error loading model: ")[2] for line in telling)


class GgufModel:
    """One model and its context, which grows with what is asked of it."""

    def __init__(self, path: str, *, threads: int, exact: bool) -> None:
        """Load the file.

        Raises:
            LoadFailed: llama.cpp does not take the file, with its reason.
            EngineUnavailable: there is too little memory, or the model needs an encoder.
        """
        import cyllama.llama.llama_cpp as library

        self._library, self._threads, self._exact = library, threads, exact
        self.log = Log(library)
        self._model = self._load(path)
        vocab = self._model.get_vocab()
        self._vocabulary = int(vocab.n_vocab)
        self._text = TokenText(vocab)
        self._vocab = vocab
        self._keys: dict[str, str] = self._model.metadata()
        self._end_ids = frozenset(i for i in range(self._vocabulary) if vocab.is_eog(i))
        self.context_length: int | None = int(self._model.n_ctx_train) or None
        self._template = str(self._model.get_default_chat_template())
        self._chat: ChatTemplate | None = None
        self._room = 0
        self._context: Any = None
        self._batch = library.LlamaBatch(n_tokens=BATCH, embd=0, n_seq_max=1)
        self._make_room(1)

    def describe(self) -> dict[str, Any]:
        """What the parent tells of the engine; the texts among it are for the evidence."""
        built = json.loads((files("cyllama") / "build_config.json").read_text("utf-8"))
        llama_cpp = str(built["versions"]["llama_cpp_version"])
        architecture, _, weights = str(self._model.desc).partition(" ")
        return {
            "version": llama_cpp,
            "has_chat_template": bool(self._template),
            "context_length": self.context_length,
            "told": {
                "engine": f"llama.cpp {llama_cpp} (cyllama {version('cyllama')})",
                "ggml": f"{self._library.ggml_version()} {self._library.ggml_commit()}",
                "device": "cpu",
                "weights": weights.partition(" ")[2],
                "threads": str(self._threads),
                "attention": "plain" if self._exact else "flash where it can",
                "kv_cache": "float32" if self._exact else "float16",
                "architecture": architecture,
            },
        }

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """The text's token ids, with or without the start and end tokens the file asks for."""
        return self._text.ids(encodable(text), special=special)

    def generate(
        self, request: GenerationRequest, began: Callable[[str, list[int]], None]
    ) -> dict[str, Any]:
        """Answer one request; `began` is told the prompt when the prefill begins.

        Raises:
            InvalidRequest: the model cannot be asked this.
            Exception: llama.cpp broke, or the logits hold NaN.
        """
        rendered, prompt_ids = self._prompt(request)
        require_room(len(prompt_ids), request.max_tokens, self.context_length)
        self._make_room(len(prompt_ids) + request.max_tokens)
        watch, pick = self._watch(request), picker(request)
        began(rendered, prompt_ids)
        with _alarm(self._context, request.timeout_s):
            watch.start()
            try:
                token, place = pick(self._decode(prompt_ids, 0)), len(prompt_ids)
                while not watch.note(token):
                    token, place = pick(self._decode([token], place)), place + 1
            except InterruptedError:
                watch.cut()
            watch.stop()
        return {
            "text": watch.text(),
            "token_ids": watch.token_ids,
            "finish_reason": watch.finish_reason or FinishReason.LENGTH,
            "ttft_s": watch.ttft_s,
            "token_s": watch.token_s,
            "total_s": watch.total_s,
        }

    def generate_batch(
        self, requests: Sequence[GenerationRequest], began: Callable[[float], None]
    ) -> list[dict[str, Any] | None]:
        """Answer greedy requests together; None for each that must be asked alone.

        `began` is told the limit in seconds of each pass before it.

        Raises:
            Exception: llama.cpp broke.
        """

        def run(chunk: list[Slot]) -> float | None:
            limit_s = max(slot.request.timeout_s for slot in chunk)
            began(limit_s)
            try:
                context = self._new_context(chunk[0].room, sequences=len(chunk))
            except EngineUnavailable:  # no memory for so many at once
                return None
            with _alarm(context, limit_s):
                try:
                    return Pass(context, self._batch, chunk, BATCH).run()
                except InterruptedError:  # those that are done are answered
                    return limit_s

        slots = [slot for n, r in enumerate(requests) if (slot := self._slot(n, r)) is not None]
        found = answer_slots(passes(self._model, slots, 4 if self._exact else 2), run)
        return [found.get(place) for place in range(len(requests))]

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Logits after each token: float32 [tokens, vocabulary].

        Raises:
            InvalidRequest: the model cannot be given these tokens.
        """
        import numpy as np

        ids = tuple(token_ids)
        require_tokens(ids, self._vocabulary, self.context_length)
        self._make_room(len(ids))
        self._context.kv_cache_clear(True)
        found = np.empty((len(ids), self._vocabulary), np.float32)
        for start in range(0, len(ids), BATCH):
            piece = list(ids[start : start + BATCH])
            self._batch.set_batch(piece, start, True)
            self._context.decode(self._batch)
            for place in range(len(piece)):
                found[start + place] = self._context.get_logits_ith(place)
        return found

    def _load(self, path: str) -> Any:
        library = self._library
        library.llama_backend_init()
        # LlamaContext.get_logits_ith asks its model for n_vocab, which LlamaModel does not have.
        n_vocab = property(lambda model: model.get_vocab().n_vocab)
        kind: Any = type("Model", (library.LlamaModel,), {"n_vocab": n_vocab})
        settings = library.LlamaModelParams()
        settings.n_gpu_layers = 0
        try:
            model = kind(path, settings)
        except Exception as error:
            raise self._failure(f"{path}: llama.cpp does not load it", error) from error
        if model.has_encoder():
            raise EngineUnavailable(f"{path}: it has an encoder; expected a decoder-only model")
        return model

    def _failure(self, what: str, error: Exception) -> Exception:
        reason = self.log.take() or told(error)
        kind = EngineUnavailable if _NO_MEMORY.search(reason) else LoadFailed
        return kind(one_line(f"{what}: {reason}", limit=1000))

    def _make_room(self, tokens: int) -> None:
        """A context of a power of two of tokens: the whole model's would be memory for nothing.

        It is never more than twice what is needed, as llama.cpp picks the long or the short
        factors of a scaled rope by the context's size.
        """
        room = _room(tokens)
        if self._context is not None and room == self._room:
            return
        self._context, self._room = None, 0
        self._context, self._room = self._new_context(room), room

    def _new_context(self, room: int, *, sequences: int = 1) -> Any:
        """A context with so many tokens of room for each of its sequences."""
        settings = self._library.LlamaContextParams()
        settings.n_ctx, settings.n_seq_max = room * sequences, sequences
        settings.n_batch = settings.n_ubatch = BATCH
        settings.n_threads = settings.n_threads_batch = self._threads
        settings.type_k = settings.type_v = _F32 if self._exact else _F16
        settings.flash_attn_type = _FLASH_OFF if self._exact else _FLASH_AUTO
        try:
            context = self._library.LlamaContext(self._model, settings)
        except Exception as error:
            raise self._failure(f"no context of {room * sequences} tokens", error) from error
        context.install_cancel_callback()
        return context

    def _slot(self, place: int, request: GenerationRequest) -> Slot | None:
        """The request as a part of a batch; None when it has to be asked alone."""
        if not request.greedy or request.top_logprobs:
            return None
        try:
            require_sane(request)
            rendered, ids = self._prompt(request)
            require_room(len(ids), request.max_tokens, self.context_length)
        except InvalidRequest:
            return None
        room = _room(len(ids) + request.max_tokens)
        return Slot(place, request, rendered, ids, self._watch(request), room)

    def _watch(self, request: GenerationRequest) -> Watch:
        named = (self._text.special(encodable(stop)) for stop in request.stop)
        stops = frozenset(i for i in named if i is not None)
        ends = stops if request.ignore_eos else stops | self._end_ids
        return Watch(request, end_ids=ends, text_of=self._text.of)

    def _decode(self, token_ids: list[int], place: int) -> np.ndarray[Any, Any]:
        """The logits after the last of the tokens, which stand at `place` and after."""
        import numpy as np

        if place == 0:
            self._context.kv_cache_clear(True)
        for start in range(0, len(token_ids), BATCH):
            self._batch.set_batch(token_ids[start : start + BATCH], place + start, False)
            self._context.decode(self._batch)
        return np.asarray(self._context.get_logits_ith(-1), np.float32)

    def _prompt(self, request: GenerationRequest) -> tuple[str, list[int]]:
        if given := tuple(request.prompt_token_ids):
            require_tokens(given, self._vocabulary, self.context_length)
            return self._text.of(given), list(given)
        if request.prompt is None:
            rendered = self._render(request)
            return rendered, self._text.ids(rendered, special=False)
        rendered = encodable(request.prompt)
        ids = self._text.ids(rendered, special=True) or self._start_ids()
        return rendered, require_start(ids, rendered)

    def _start_ids(self) -> list[int]:
        """The token that stands for an empty prompt, as a list; empty when the file has none."""
        candidates = (self._key_id("bos"), self._text.special("<|endoftext|>"), self._key_id("eos"))
        return [i for i in candidates if i is not None][:1]

    def _key_id(self, name: str) -> int | None:
        # Asked by the key: without it llama.cpp takes a default that may be any token.
        value = self._keys.get(f"tokenizer.ggml.{name}_token_id")
        known = value is not None and 0 <= int(value) < self._vocabulary
        return int(value) if value is not None and known else None

    def _render(self, request: GenerationRequest) -> str:
        if not self._template:
            raise NoChatTemplate(
                "the model has no chat template (tokenizer.chat_template in the file); "
                "ask it with modality run"
            )
        messages = [{"role": m.role, "content": encodable(m.content)} for m in request.messages]
        try:
            if self._chat is None:
                self._chat = ChatTemplate(self._template, self._special_tokens())
            return encodable(self._chat.render(messages))
        except Exception as error:
            raise InvalidRequest(
                f"the model's chat template refuses the messages: {told(error)}"
            ) from error

    def _special_tokens(self) -> dict[str, str]:
        names = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
        found = {short: self._key_id(key) for key, short in names.items()}
        return {
            f"{short}_token": str(self._vocab.get_text(i))
            for short, i in found.items()
            if i is not None
        }


def _room(tokens: int) -> int:
    return int(max(BATCH, 1 << (tokens - 1).bit_length()))


@contextmanager
def _alarm(context: Any, timeout_s: float) -> Iterator[None]:
    """After so many seconds `decode` stops in the middle and raises InterruptedError."""
    context.cancel = False
    timer = threading.Timer(
        min(timeout_s, threading.TIMEOUT_MAX), lambda: setattr(context, "cancel", True)
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        context.cancel = False
