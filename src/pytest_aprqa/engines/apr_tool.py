"""The `apr` command-line program as an engine: one process for each answer.

What is known of its calls: `apr run MODEL -p PROMPT --max-tokens N --no-gpu --json`, `apr chat
MODEL --no-gpu --json` with the prompt as a line on standard input, `apr --version`. The fields of
its JSON are not documented: `apr_answer` says which are looked for.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.engines.apr_answer import AprAnswer, Unreadable, panic_in, parse_answer
from pytest_aprqa.engines.engine import (
    EngineClosed,
    EngineCrashed,
    InvalidRequest,
    LoadFailed,
    NoChatTemplate,
)
from pytest_aprqa.engines.generation import encodable, require_sane
from pytest_aprqa.engines.tool_process import Ended, run_tool
from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from pytest_aprqa.domain.case import Target

TOOL = "apr"
VERSION_TIMEOUT_S = 30.0
LOAD_TIMEOUT_S = 1800.0
"""Limit of the first token: 100 GB at the 60 MB/s of a slow network disk."""
PROMPT_BYTES = 100_000
"""Longest prompt on a command line; Linux takes 131072 bytes in one argument."""
_REFUSED_ARGUMENTS = ("unexpected argument", "unrecognized")
"""How a version of the tool says that it does not know an argument."""


class AprToolProvider:
    """The `apr` program found on PATH, for all three formats on the CPU."""

    name = "apr"

    def why_not(self, target: Target) -> str | None:
        """It is not on PATH, or the cell is a GPU's, which it gives no evidence for."""
        if shutil.which(TOOL) is None:
            return f"{TOOL} is not on PATH"
        if target.backend is not Backend.CPU:
            return f"{TOOL} does not tell which device it ran on, so it fills no gpu cell"
        return None

    def load(self, target: Target, path: Path, *, threads: int | None) -> AprToolEngine:
        """Have the tool generate one token, which shows that it takes the model.

        Raises:
            LoadFailed: it does not, or is late with it.
            EngineUnavailable: the tool is missing, broken, or does not know our arguments.
        """
        tool = shutil.which(TOOL)
        if tool is None:
            raise EngineUnavailable(f"{TOOL} is not on PATH; install it or add its directory")
        model = _weights(path) if target.format is Format.SAFETENSORS else path
        engine = AprToolEngine(
            tool, model, version=_version(tool), template=_has_template(path), threads=threads
        )
        try:
            engine.try_out()
        except EngineCrashed as crash:
            raise LoadFailed(f"{model}: {crash.error}") from crash
        except InvalidRequest as refused:
            raise EngineUnavailable(str(refused)) from refused
        return engine


class AprToolEngine:
    """A model file that `apr` loads anew for each answer, on the CPU (`--no-gpu`).

    The time limit and the times are those of the whole process, loading included. It is taken to
    answer greedily, as no argument for sampling is known; `apr chat` takes no limit of tokens.
    Stop strings are applied to its text here.
    """

    name = TOOL
    device = "cpu"
    context_length = None

    def __init__(
        self, tool: str, model: Path, *, version: str, template: bool, threads: int | None
    ) -> None:
        self._tool = tool
        self._model = model
        self._threads = threads
        self._closed = False
        self.version = version
        self.has_chat_template = template

    def try_out(self) -> None:
        """Generate one token.

        Raises:
            EngineCrashed: the tool broke, or was late.
            InvalidRequest: it does not know the arguments.
        """
        request = GenerationRequest(prompt="Hello", max_tokens=1, timeout_s=LOAD_TIMEOUT_S)
        if self.generate(request).finish_reason is FinishReason.TIMEOUT:
            raise EngineCrashed(f"{TOOL} run gave no token within {LOAD_TIMEOUT_S:g} s")

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request; at the time limit there is no text, and what it said is kept.

        Raises:
            InvalidRequest: the tool cannot be asked this: sampling, several messages, a prompt
                that fits no argument, or an argument that it does not know.
            EngineCrashed: it died, panicked, ended with an error, or said nothing that holds a
                text: raw output is never taken for an answer.
        """
        if self._closed:
            raise EngineClosed
        require_sane(request)
        if not request.greedy:
            raise InvalidRequest(
                f"temperature {request.temperature:g}: no argument of {TOOL} for sampling is "
                "known; ask at temperature 0"
            )
        if request.ignore_eos or request.prompt_token_ids:
            raise InvalidRequest(f"{TOOL} takes neither token ids nor ignore_eos; give it a prompt")
        words, prompt, given = self._words(request)
        command = [self._tool, *words]
        threads = {} if self._threads is None else {"RAYON_NUM_THREADS": str(self._threads)}
        try:
            ended = run_tool(command, given=given, timeout_s=request.timeout_s, environment=threads)
        except OSError as error:
            raise EngineCrashed(f"{TOOL} cannot be started: {error}") from error
        called = f"{TOOL} {words[0]}"
        if ended.late:
            return _completion(request, prompt, ended, None)
        return _completion(request, prompt, ended, _read(called, ended))

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """Not to be had.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest(f"{TOOL} tells no token ids of a text")

    def logits(self, token_ids: Sequence[int]) -> np.ndarray[Any, Any]:
        """Not to be had.

        Raises:
            InvalidRequest: always.
        """
        raise InvalidRequest(f"{TOOL} tells no logits")

    def describe(self) -> dict[str, str]:
        """What ran, for the evidence: version, file, device, and what its times hold."""
        return {
            "engine": f"{self.name} {self.version}",
            "device": self.device,
            "file": self._model.name,
            "threads": "its own choice" if self._threads is None else str(self._threads),
            "times": "of a process for each answer, loading included",
            "chat": "without a limit of tokens",
        }

    def close(self) -> None:
        """Answer no more; nothing is running between two answers."""
        self._closed = True

    def _words(self, request: GenerationRequest) -> tuple[list[str], str, str]:
        """The arguments, the prompt, and what goes to standard input."""
        model = str(self._model)
        if request.prompt is not None:
            prompt = _argument(encodable(request.prompt))
            limit = str(request.max_tokens)
            words = ["run", model, "-p", prompt, "--max-tokens", limit, "--no-gpu", "--json"]
            return words, prompt, ""
        if not self.has_chat_template:
            raise NoChatTemplate("the model has no chat template; ask it with modality run")
        prompt = _line(request)
        return ["chat", model, "--no-gpu", "--json"], prompt, f"{prompt}\n"


def _argument(prompt: str) -> str:
    if "\0" in prompt:
        raise InvalidRequest(f"the prompt holds a NUL, which no argument of {TOOL} can")
    if prompt.startswith("-"):
        raise InvalidRequest(f"the prompt begins with '-', which {TOOL} would take for an option")
    if (size := len(prompt.encode())) > PROMPT_BYTES:
        raise InvalidRequest(f"the prompt has {size} bytes; {TOOL} can be given {PROMPT_BYTES}")
    return prompt


def _line(request: GenerationRequest) -> str:
    """The one line that `apr chat` is given; several would be several turns to it."""
    if len(request.messages) != 1 or request.messages[0].role != "user":
        raise InvalidRequest(
            f"{TOOL} chat is given one message of the user; a system text and further turns "
            "cannot be told to it"
        )
    text = encodable(request.messages[0].content)
    if len(text.splitlines()) > 1 or text.endswith(("\n", "\r")) or "\0" in text:
        raise InvalidRequest(f"{TOOL} chat is given one line; the message has several, or a NUL")
    return text


def _read(called: str, ended: Ended) -> AprAnswer:
    if panic := panic_in(ended.errors):
        raise EngineCrashed(f"{called} panicked: {panic}", ended.errors)
    if ended.status:
        last = ended.errors.splitlines()[-1:]
        if ended.status > 0 and any(words in ended.errors for words in _REFUSED_ARGUMENTS):
            raise InvalidRequest(
                f"this {TOOL} does not take our arguments: {one_line(ended.errors, limit=200)}"
            )
        raise EngineCrashed(
            ": ".join([f"{called} {ended.how}", *map(one_line, last)]), ended.errors
        )
    try:
        return parse_answer(ended.output)
    except Unreadable as error:
        raise EngineCrashed(f"{called} gave no answer: {error}", ended.errors) from error


def _completion(
    request: GenerationRequest, prompt: str, ended: Ended, answer: AprAnswer | None
) -> Completion:
    text, reason, diagnosis = "", FinishReason.TIMEOUT, ended.errors
    if answer is not None:
        diagnosis = ""
        counted = len(answer.token_ids) if answer.tokens is None else answer.tokens
        full = answer.cut_off or counted >= request.max_tokens
        reason = FinishReason.LENGTH if full else FinishReason.STOP
        ends = [answer.text.find(stop) for stop in request.stop if stop in answer.text]
        text = answer.text[: min(ends, default=None)]
        reason = FinishReason.STOP if ends else reason
    return Completion(
        text=text,
        token_ids=() if answer is None else answer.token_ids,
        prompt_tokens=0 if answer is None else answer.prompt_tokens,
        finish_reason=reason,
        ttft_s=None,
        total_s=ended.total_s,
        peak_memory_bytes=ended.peak_memory_bytes,
        rendered_prompt=prompt,
        counted_tokens=None if answer is None else answer.tokens,
        diagnosis=diagnosis,
    )


def _version(tool: str) -> str:
    ended = run_tool([tool, "--version"], timeout_s=VERSION_TIMEOUT_S)
    words = ended.output.split()
    if ended.status != 0 or not words:
        raise EngineUnavailable(
            f"{TOOL} --version {ended.how}, of {tool}; expected it to tell its version"
        )
    return one_line(words[-1], limit=40)


def _weights(directory: Path) -> Path:
    """The file that the tool is given for a directory: the index of the shards, or the one file."""
    for name in ("model.safetensors.index.json", "model.safetensors"):
        if (directory / name).is_file():
            return directory / name
    found = sorted(directory.glob("*.safetensors"))
    if len(found) != 1:
        raise LoadFailed(f"{directory}: {len(found)} safetensors files without an index")
    return found[0]


def _has_template(path: Path) -> bool:
    """Whether the model brings a chat template, by its own files."""
    from pytest_aprqa.conversion.reading import read_portable
    from pytest_aprqa.conversion.tokenizers.source import chat_templates

    try:
        return bool(chat_templates(read_portable(path).files))
    except (CheckpointError, ConversionError) as error:
        raise LoadFailed(one_line(error)) from error
