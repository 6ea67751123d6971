from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_aprqa import engines
from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.completion import Completion, FinishReason, GenerationRequest
from pytest_aprqa.domain.errors import AprqaError, EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format, Quantization
from pytest_aprqa.engines import choice
from pytest_aprqa.engines.engine import (
    BatchingEngine,
    Engine,
    EngineCrashed,
    InvalidRequest,
    LoadFailed,
    StreamingEngine,
)
from pytest_aprqa.engines.guarded import guarded
from pytest_aprqa.engines.providers import (
    GROUP,
    Offer,
    find_provider,
    known_providers,
    load_with,
    require_provider,
    why_no_provider,
    why_not,
)
from tests.conversion.files import tiny
from tests.packages import install

TARGET = Target("a/b", Format.SAFETENSORS, None, Backend.CPU)
REQUEST = GenerationRequest(prompt="What is 2 + 2?", max_tokens=4)
ANSWER = Completion("4", (7, 2), 3, FinishReason.STOP, 0.1, 0.2, 1, "What is 2 + 2?")
TOY = """
class Provider:
    name = "toy"

    def why_not(self, target):
        return None

    def load(self, target, path, *, threads):
        raise NotImplementedError

ready = Provider()

def make():
    return Provider()
"""


class ToyEngine:
    """Answers "4", or raises what it was given."""

    name, version, has_chat_template = "toy", "3.1", False
    context_length = None

    def __init__(self, answer: object = ANSWER, device: str = "cpu") -> None:
        self.answer = answer
        self.device = device
        self.closed = False

    def generate(self, request: GenerationRequest) -> Completion:
        answer: Completion = self._give()
        return answer

    def tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        return (self._give(), 1)

    def logits(self, token_ids: Sequence[int]) -> Any:
        return self._give()

    def describe(self) -> Mapping[str, str]:
        return {"dtype": "f32", "provider": "nobody", "device": "abacus"}

    def close(self) -> None:
        self.closed = True

    def _give(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class BatchingToy(ToyEngine):
    """Answers two requests, whatever it is asked."""

    def generate_batch(
        self, requests: Sequence[GenerationRequest]
    ) -> tuple[Completion | None, ...]:
        return (self._give(), None)


class StreamingToy(ToyEngine):
    """Tells its answer in one piece."""

    def stream(self, request: GenerationRequest, tell: Callable[[str], bool]) -> Completion:
        tell("4")
        answer: Completion = self._give()
        return answer


class BothToy(BatchingToy, StreamingToy):
    """Batches and streams."""


class ToyProvider:
    """Loads what it was given, or raises it."""

    def __init__(self, loaded: object = None, *, name: str = "toy", reason: object = None) -> None:
        self.name = name
        self._loaded = loaded
        self._reason = reason

    def why_not(self, target: Target) -> str | None:
        if isinstance(self._reason, Exception):
            raise self._reason
        return None if self._reason is None else str(self._reason)

    def load(self, target: Target, path: Path, *, threads: int | None) -> Engine:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        loaded: Any = self._loaded
        return loaded  # type: ignore[no-any-return]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory where packages are found."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_the_built_in_engines_are_known_by_name() -> None:
    assert list(known_providers()) == ["transformers", "llama.cpp", "apr"]


@pytest.mark.parametrize("value", ["toy_a:ready", "toy_a:Provider", "toy_a:make"])
def test_an_installed_provider_is_found(site: Path, value: str) -> None:
    install(site, "toy-engine", {"toy_a.py": TOY}, {GROUP: {"toy": value}})
    assert find_provider(known_providers(), "toy").why_not(TARGET) is None


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(AprqaError) as caught:
        find_provider(known_providers([Offer(ToyProvider(), "a test")]), "vllm")
    assert str(caught.value) == (
        "no engine is named 'vllm'; known: transformers, llama.cpp, apr, toy"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("def make(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module 'toy_b' has no attribute 'make'"),
    ],
)
def test_a_broken_entry_point_is_named(site: Path, text: str, error: str) -> None:
    # A module of its own for each case: one that was imported stays imported.
    name = f"toy_b{len(text)}"
    error = error.replace("toy_b", name)
    install(site, "toy-engine", {f"{name}.py": text}, {GROUP: {"toy": f"{name}:make"}})
    with pytest.raises(AprqaError) as caught:
        known_providers()
    assert str(caught.value) == (
        f"the entry point toy = {name}:make (pytest_aprqa.engines) of toy-engine 1.0 "
        f"does not load: {error}; repair or uninstall the package"
    )
    assert choice.why_unavailable(TARGET) is None  # nobody looked for an engine


@pytest.mark.parametrize(
    ("candidate", "shown"),
    [
        (5, "a test gives 5, which is no engine provider: expected name (one word), "),
        (ToyProvider, "a test gives <class "),
        (ToyEngine(), "which is no engine provider: "),
        (ToyProvider(name="two words"), "a test gives an engine provider named 'two words': "),
        (ToyProvider(name=""), "a test gives an engine provider named '': expected name "),
        (ToyProvider(name="a=b"), "named 'a=b'"),
        (ToyProvider(name=None), "named None"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_provider_is_refused(candidate: object, shown: str) -> None:
    with pytest.raises(AprqaError, match=re.escape(shown)):
        require_provider(candidate, "a test")


def test_a_value_that_is_no_provider_is_refused(site: Path) -> None:
    install(site, "toy-engine", {"toy_c.py": "five = 5"}, {GROUP: {"toy": "toy_c:five"}})
    with pytest.raises(AprqaError, match=r"of toy-engine 1\.0 gives 5, which is no engine"):
        known_providers()


def test_two_of_one_name_are_both_told(site: Path) -> None:
    install(site, "toy-engine", {"toy_d.py": TOY}, {GROUP: {"toy": "toy_d:ready"}})
    with pytest.raises(AprqaError) as caught:
        known_providers([Offer(ToyProvider(), "my conftest.py")])
    assert str(caught.value) == (
        "two engines are named 'toy': one of the entry point toy = toy_d:ready "
        "(pytest_aprqa.engines) of toy-engine 1.0, one of my conftest.py; "
        "rename or remove one of them"
    )


def test_a_built_in_name_cannot_be_taken() -> None:
    with pytest.raises(AprqaError, match="'transformers': one of pytest-aprqa itself, one of x"):
        known_providers([Offer(ToyProvider(name="transformers"), "x")])


def test_one_that_can_is_enough_else_each_tells_why() -> None:
    able, unable = ToyProvider(), ToyProvider(name="other", reason="no\ndevice")
    assert why_no_provider([unable, able], TARGET) is None
    assert why_no_provider([unable], TARGET) == "other: no device"
    both = why_no_provider([unable, ToyProvider(reason="too large")], TARGET)
    assert both == "other: no device; toy: too large"


def test_a_provider_that_breaks_instead_of_answering_is_a_set_up_error() -> None:
    provider = ToyProvider(reason=KeyError("x"))
    with pytest.raises(AprqaError, match="the engine toy cannot say whether it runs "
                       "safetensors-cpu: KeyError: 'x'"):  # fmt: skip
        why_not(provider, TARGET)


def test_the_choice_asks_the_providers_instead_of_the_built_in_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: False)
    gpu = Target("a/b", Format.SAFETENSORS, None, Backend.GPU)
    assert choice.why_unavailable(gpu, [ToyProvider()]) is None
    reason = choice.why_unavailable(TARGET, [ToyProvider(reason="no licence")])
    assert reason == "toy: no licence"
    impossible = Target("a/b", Format.APR, Quantization.Q5_K_M, Backend.CPU)
    assert choice.why_unavailable(impossible, [ToyProvider()]) is not None


def test_what_a_provider_loads_is_used(tmp_path: Path) -> None:
    engine = load_with(ToyProvider(ToyEngine()), TARGET, tmp_path, threads=2)
    assert engine.generate(REQUEST) is ANSWER
    assert (engine.name, engine.version, engine.device) == ("toy", "3.1", "cpu")


def test_the_evidence_names_engine_version_device_and_provider_for_sure(tmp_path: Path) -> None:
    engine = load_with(ToyProvider(ToyEngine(), name="acme"), TARGET, tmp_path)
    assert engine.describe() == {
        "engine": "toy 3.1",
        "dtype": "f32",
        "device": "cpu",
        "provider": "acme",
    }


def test_an_exception_while_loading_is_a_failed_load(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed) as caught:
        load_with(ToyProvider(OSError("bad magic")), TARGET, tmp_path / "m")
    assert str(caught.value) == f"{tmp_path / 'm'}: toy does not load it: OSError: bad magic"


@pytest.mark.parametrize("error", [LoadFailed("x"), EngineUnavailable("x")])
def test_errors_of_the_protocol_pass_while_loading(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        load_with(ToyProvider(error), TARGET, tmp_path)
    assert caught.value is error


@pytest.mark.parametrize(
    ("device", "backend", "fits"),
    [
        ("cpu", Backend.CPU, True),
        ("cpu:0", Backend.CPU, True),
        ("cuda:0", Backend.GPU, True),
        ("cpu", Backend.GPU, False),
        ("cuda:0", Backend.CPU, False),
    ],
)
def test_a_model_on_another_device_fills_no_cell(
    tmp_path: Path, device: str, backend: Backend, fits: bool
) -> None:
    engine = ToyEngine(device=device)
    target = Target("a/b", Format.SAFETENSORS, None, backend)
    if fits:
        assert load_with(ToyProvider(engine), target, tmp_path).device == device
        return
    with pytest.raises(EngineUnavailable, match=f"toy loaded {target.name} on {device}: "):
        load_with(ToyProvider(engine), target, tmp_path)
    assert engine.closed


@pytest.mark.parametrize(
    "ask",
    [
        lambda engine: engine.generate(REQUEST),
        lambda engine: engine.tokenize("a", special=True),
        lambda engine: engine.logits([1]),
        lambda engine: engine.generate_batch([REQUEST, REQUEST]),
        lambda engine: engine.stream(REQUEST, bool),
    ],
)
def test_an_exception_is_a_crash_and_a_refusal_stays_one(ask: Callable[[Any], object]) -> None:
    with pytest.raises(EngineCrashed) as caught:
        ask(guarded(BothToy(ZeroDivisionError("by zero")), "toy"))
    assert caught.value.error == "ZeroDivisionError: by zero"
    assert "_give" in caught.value.traceback_tail
    for error in (InvalidRequest("no"), EngineCrashed("boom")):
        with pytest.raises(type(error)) as passed:
            ask(guarded(BothToy(error), "toy"))
        assert passed.value is error


@pytest.mark.parametrize("answer", [None, "4", {"text": "4"}])
def test_what_is_no_completion_is_a_crash(answer: object) -> None:
    with pytest.raises(EngineCrashed, match=r"toy gave .*, not a Completion"):
        guarded(ToyEngine(answer), "toy").generate(REQUEST)


def test_what_the_engine_can_do_the_guarded_one_can() -> None:
    for kind in (ToyEngine, BatchingToy, StreamingToy, BothToy):
        engine: Any = kind()
        held = guarded(engine, "toy")
        assert isinstance(held, BatchingEngine) == (kind in (BatchingToy, BothToy))
        assert isinstance(held, StreamingEngine) == (kind in (StreamingToy, BothToy))
        held.close()
        assert engine.closed


def test_a_batch_of_another_length_is_a_crash() -> None:
    engine: Any = guarded(BatchingToy(), "toy")
    assert engine.generate_batch([REQUEST, REQUEST]) == (ANSWER, None)
    with pytest.raises(EngineCrashed, match="toy gave 2 answers to 3"):
        engine.generate_batch([REQUEST] * 3)


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("name", 5, "no name of the right type"),
        ("device", None, "no device of the right type"),
        ("context_length", "long", "no context_length of the right type"),
        ("generate", None, "no method generate"),
        ("close", 5, "no method close"),
    ],
)
def test_what_is_no_engine_is_refused(member: str, value: object, told: str) -> None:
    engine: Any = ToyEngine()
    setattr(engine, member, value)
    with pytest.raises(AprqaError, match=f"the engine that acme loaded has {told}"):
        guarded(engine, "acme")


def test_transformers_by_name_is_the_second_opinion_on_gguf(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    convert(tiny(), path)
    target = Target("a/b", Format.GGUF, Quantization.F16, Backend.CPU)
    provider = known_providers()["transformers"]
    assert provider.why_not(target) is None
    with_name = load_with(provider, target, path, threads=2)
    told = with_name.describe()
    assert told["engine"].startswith("transformers ")
    assert told["engine"].endswith(" over gguf")
    assert (told["provider"], told["threads"]) == ("transformers", "1")
    other = load_with(known_providers()["llama.cpp"], target, path, threads=2)
    assert other.describe()["engine"].startswith("llama.cpp ")
    assert with_name.generate(REQUEST).text == other.generate(REQUEST).text
    other.close()


def test_transformers_by_name_runs_a_directory() -> None:
    engine = load_with(known_providers()["transformers"], TARGET, tiny(), threads=1)
    assert engine.generate(REQUEST).completion_tokens > 0


def test_what_the_built_in_engines_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has_cuda_driver", lambda: False)
    known = known_providers()
    gpu = Target("a/b", Format.GGUF, Quantization.F16, Backend.GPU)
    assert known["transformers"].why_not(gpu) == "no CUDA device"
    assert known["llama.cpp"].why_not(gpu) == "it runs on the CPU only, as it is built here"
    assert known["llama.cpp"].why_not(TARGET) == "it runs gguf files, not safetensors"


def test_the_public_names_of_engines_are_there() -> None:
    assert [name for name in engines.__all__ if not hasattr(engines, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'Vllm'"):
        engines.Vllm  # noqa: B018
