"""The `apr` program is not to be had here: a stand-in with the known arguments takes its place."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.domain.case import Target
from pytest_aprqa.domain.completion import FinishReason, GenerationRequest, Message
from pytest_aprqa.domain.errors import EngineUnavailable
from pytest_aprqa.domain.model import Backend, Format
from pytest_aprqa.engines.apr_answer import TEXT_KEYS, AprAnswer, Unreadable, panic_in, parse_answer
from pytest_aprqa.engines.engine import (
    EngineCrashed,
    InvalidRequest,
    LoadFailed,
    NoChatTemplate,
)
from pytest_aprqa.engines.providers import EngineProvider, known_providers, load_with
from tests.conversion.files import tiny

STAND_IN = """\
#!{python}
import json, os, signal, subprocess, sys, time

said = sys.stdin.read()
with open({log!r}, "a") as log:
    print(json.dumps([sys.argv[1:], said, os.environ.get("RAYON_NUM_THREADS")]), file=log)
if sys.argv[1:] == ["--version"]:
    print(os.environ.get("FAKE_VERSION", "apr 0.4.11"))
    sys.exit(int(os.environ.get("FAKE_VERSION_STATUS", "0")))
mode = os.environ.get("FAKE_APR", "healthy")
first = sys.argv[sys.argv.index("--max-tokens") + 1] == "1" if sys.argv[1] == "run" else False
if first and mode != os.environ.get("FAKE_LOAD"):
    mode = "healthy"
print("loading 3 tensors", file=sys.stderr)
if mode == "healthy":
    print("=== apr ===")
    told = {{"text": "The answer is 4.\\nBye", "tokens_generated": 6, "prompt_tokens": 5}}
    print(json.dumps(told))
    print("tok/s: 12.0")
elif mode == "status":
    print("error: tensor blk.0 has no place", file=sys.stderr)
    sys.exit(3)
elif mode.startswith("SIG"):
    print("about to die", file=sys.stderr, flush=True)
    os.kill(os.getpid(), getattr(signal, mode))
elif mode == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open({log!r} + ".pids", "w") as pids:
        print(os.getpid(), child.pid, file=pids)
    print("stuck in layer 7", file=sys.stderr, flush=True)
    time.sleep(600)
elif mode == "panic":
    print("thread 'main' panicked at src/run.rs:12:5:\\nindex out of bounds", file=sys.stderr)
    sys.exit(101)
elif mode == "quiet panic":
    print("thread 'w-1' panicked at 'lost', src/w.rs:3:1", file=sys.stderr)
    print(json.dumps({{"text": "fine"}}))
elif mode == "usage":
    print("error: unexpected argument '--no-gpu' found", file=sys.stderr)
    sys.exit(2)
else:
    sys.stdout.write(mode)
"""
PLAIN = GenerationRequest(prompt="What is 2 + 2?", max_tokens=8, timeout_s=30)
CHAT = GenerationRequest(messages=(Message("user", "What is 2 + 2?"),), max_tokens=8, timeout_s=30)
TARGETS = {format_: Target("a/b", format_, None, Backend.CPU) for format_ in Format}
MODEL = tiny() / "model.safetensors"


@pytest.fixture
def provider() -> EngineProvider:
    return known_providers()["apr"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in is on PATH; the file has its calls."""
    path, folder = tmp_path / "calls", tmp_path / "bin"
    folder.mkdir()
    tool = folder / "apr"
    tool.write_text(STAND_IN.format(python=sys.executable, log=str(path)))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return path


def calls(log: Path) -> list[list[Any]]:
    """Arguments, standard input and thread count of every call."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def load(provider: EngineProvider, path: Path | None = None) -> Any:
    format_ = Format.SAFETENSORS if path is None else Format(path.suffix[1:])
    return load_with(provider, TARGETS[format_], path or tiny(), threads=2)


def test_it_is_offered_only_when_it_is_on_path(
    provider: EngineProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for target in TARGETS.values():
        assert provider.why_not(target) == "apr is not on PATH"
    with pytest.raises(EngineUnavailable, match="apr is not on PATH; install it"):
        load(provider)


@pytest.mark.usefixtures("log")
def test_it_runs_every_format_on_the_cpu_and_fills_no_gpu_cell(provider: EngineProvider) -> None:
    for format_, target in TARGETS.items():
        assert provider.why_not(target) is None
        reason = provider.why_not(Target("a/b", format_, None, Backend.GPU))
        assert reason == "apr does not tell which device it ran on, so it fills no gpu cell"


def test_a_plain_prompt(provider: EngineProvider, log: Path) -> None:
    engine = load(provider)
    answer = engine.generate(PLAIN)
    assert answer.text == "The answer is 4.\nBye"
    assert (answer.completion_tokens, answer.prompt_tokens) == (6, 5)
    assert answer.finish_reason is FinishReason.STOP
    assert answer.rendered_prompt == "What is 2 + 2?"
    assert 0 < answer.total_s < 30
    assert answer.peak_memory_bytes > 1_000_000
    version, trial, run = calls(log)
    assert version[0] == ["--version"]
    tail = ["--no-gpu", "--json"]
    assert trial[0] == ["run", str(MODEL), "-p", "Hello", "--max-tokens", "1", *tail]
    assert run == [["run", str(MODEL), "-p", "What is 2 + 2?", "--max-tokens", "8", *tail], "", "2"]


def test_a_chat_of_one_message(provider: EngineProvider, log: Path) -> None:
    engine = load(provider)
    assert engine.has_chat_template
    answer = engine.generate(CHAT)
    assert answer.text.startswith("The answer")
    arguments = ["chat", str(MODEL), "--no-gpu", "--json"]
    assert calls(log)[-1] == [arguments, "What is 2 + 2?\n", "2"]


@pytest.mark.usefixtures("log")
def test_what_ran_is_told(provider: EngineProvider) -> None:
    told = load(provider).describe()
    assert told["engine"] == "apr 0.4.11"
    assert told["provider"] == "apr"
    assert (told["device"], told["file"], told["threads"]) == ("cpu", "model.safetensors", "2")
    assert "loading included" in told["times"]


@pytest.mark.parametrize("format_", [Format.APR, Format.GGUF])
def test_a_file_is_given_as_it_is(
    provider: EngineProvider, log: Path, tmp_path: Path, format_: Format
) -> None:
    path = tmp_path / f"m.{format_}"
    convert(tiny(), path)
    engine = load(provider, path)
    assert engine.has_chat_template
    engine.generate(PLAIN)
    assert calls(log)[-1][0][1] == str(path)


@pytest.mark.parametrize(
    ("mode", "error", "tail"),
    [
        ("status", "apr run ended with status 3: error: tensor blk.0 has no place", "loading 3"),
        ("SIGSEGV", "apr run died of SIGSEGV: about to die", "loading 3"),
        ("SIGABRT", "apr run died of SIGABRT: about to die", "loading 3"),
        ("SIGKILL", "apr run died of SIGKILL: about to die", "loading 3"),
        ("panic", "apr run panicked: index out of bounds at src/run.rs:12:5", "thread 'main'"),
        ("quiet panic", "apr run panicked: 'lost', src/w.rs:3:1", "thread 'w-1'"),
        ("4", "apr run gave no answer: expected a JSON object, found 4", "loading 3"),
        ("", "apr run gave no answer: expected a JSON object, found nothing", "loading 3"),
        ("{}", "apr run gave no answer: expected a text under text, generated_text,", "loading"),
        ('{"error": "no such layer"}', "apr run gave no answer: it reports no such", "loading 3"),
    ],
)
def test_what_is_no_answer_is_a_crash_that_says_why(
    provider: EngineProvider,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    error: str,
    tail: str,
) -> None:
    engine = load(provider)
    monkeypatch.setenv("FAKE_APR", mode)
    with pytest.raises(EngineCrashed) as caught:
        engine.generate(PLAIN)
    assert caught.value.error.startswith(error)
    assert tail in caught.value.traceback_tail
    monkeypatch.setenv("FAKE_APR", "healthy")
    assert engine.generate(PLAIN).text  # it can be asked again
    assert len(calls(log)) == 4


def test_one_that_hangs_is_killed_with_its_children(
    provider: EngineProvider, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(provider)
    monkeypatch.setenv("FAKE_APR", "hang")
    answer = engine.generate(GenerationRequest(prompt="x", timeout_s=3))
    assert (answer.text, answer.completion_tokens) == ("", 0)
    assert answer.finish_reason is FinishReason.TIMEOUT
    assert answer.total_s >= 3
    assert answer.diagnosis.endswith("stuck in layer 7")
    pids = [int(pid) for pid in Path(f"{log}.pids").read_text().split()]
    assert len(pids) == 2
    expect_gone(pids)


def expect_gone(pids: list[int]) -> None:
    """The processes end within ten seconds; a zombie that nobody has waited for has ended."""
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < deadline, f"{left} are still running"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("status", f"{MODEL}: apr run ended with status 3: error: tensor blk.0 has no place"),
        ("panic", f"{MODEL}: apr run panicked: index out of bounds at src/run.rs:12:5"),
        ("{}", f"{MODEL}: apr run gave no answer: "),
    ],
)
@pytest.mark.usefixtures("log")
def test_a_model_that_gives_no_token_does_not_load(
    provider: EngineProvider, monkeypatch: pytest.MonkeyPatch, mode: str, error: str
) -> None:
    monkeypatch.setenv("FAKE_APR", mode)
    monkeypatch.setenv("FAKE_LOAD", mode)
    with pytest.raises(LoadFailed) as caught:
        load(provider)
    assert str(caught.value).startswith(error)


@pytest.mark.usefixtures("log")
def test_one_that_never_loads_is_killed(
    provider: EngineProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_aprqa.engines.apr_tool.LOAD_TIMEOUT_S", 2.0)
    monkeypatch.setenv("FAKE_APR", "hang")
    monkeypatch.setenv("FAKE_LOAD", "hang")
    with pytest.raises(LoadFailed, match="apr run gave no token within 2 s"):
        load(provider)


@pytest.mark.usefixtures("log")
def test_a_version_with_other_arguments_is_unavailable(
    provider: EngineProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_APR", "usage")
    monkeypatch.setenv("FAKE_LOAD", "usage")
    with pytest.raises(EngineUnavailable, match=r"this apr does not take our arguments: .*no-gpu"):
        load(provider)


@pytest.mark.parametrize(("version", "status"), [("", "0"), ("apr 1", "5")])
@pytest.mark.usefixtures("log")
def test_a_tool_that_tells_no_version_is_unavailable(
    provider: EngineProvider, monkeypatch: pytest.MonkeyPatch, version: str, status: str
) -> None:
    monkeypatch.setenv("FAKE_VERSION", version)
    monkeypatch.setenv("FAKE_VERSION_STATUS", status)
    with pytest.raises(EngineUnavailable, match=f"apr --version ended with status {status}, of /"):
        load(provider)


def _chat(*messages: Message) -> GenerationRequest:
    return GenerationRequest(messages=messages)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (GenerationRequest(prompt="x", temperature=0.7), "temperature 0.7: no argument of apr"),
        (GenerationRequest(prompt="x", max_tokens=0), "max_tokens 0: expected at least 1"),
        (GenerationRequest(prompt="a\0b"), "the prompt holds a NUL"),
        (GenerationRequest(prompt="-5 + 3"), "the prompt begins with '-'"),
        (GenerationRequest(prompt="x" * 100_001), "the prompt has 100001 bytes; apr can be given"),
        (_chat(Message("system", "s"), Message("user", "u")), "apr chat is given one message"),
        (_chat(*[Message("user", "u")] * 3), "apr chat is given one message"),
        (_chat(Message("assistant", "u")), "apr chat is given one message"),
        (_chat(Message("user", "a\nb")), "apr chat is given one line"),
        (_chat(Message("user", "a\n")), "apr chat is given one line"),
        (_chat(Message("user", "a\x85b")), "apr chat is given one line"),
    ],
)
def test_what_it_cannot_be_asked_is_refused_before_it_is_called(
    provider: EngineProvider, log: Path, request_: GenerationRequest, told: str
) -> None:
    engine = load(provider)
    before = len(calls(log))
    with pytest.raises(InvalidRequest) as caught:
        engine.generate(request_)
    assert str(caught.value).startswith(told)
    assert len(calls(log)) == before


@pytest.mark.usefixtures("log")
def test_a_model_without_a_template_has_no_chat(provider: EngineProvider, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(tiny(), copy)
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    engine = load_with(provider, TARGETS[Format.SAFETENSORS], copy)
    assert not engine.has_chat_template
    with pytest.raises(NoChatTemplate, match="the model has no chat template"):
        engine.generate(CHAT)


@pytest.mark.parametrize("ask", [lambda e: e.tokenize("a", special=True), lambda e: e.logits([1])])
@pytest.mark.usefixtures("log")
def test_tokens_and_logits_are_not_to_be_had(
    provider: EngineProvider, ask: Callable[[Any], object]
) -> None:
    with pytest.raises(InvalidRequest, match="apr tells no"):
        ask(load(provider))


@pytest.mark.usefixtures("log")
def test_a_closed_engine_answers_no_more(provider: EngineProvider) -> None:
    engine = load(provider)
    engine.close()
    with pytest.raises(InvalidRequest, match="the engine is closed"):
        engine.generate(PLAIN)


@pytest.mark.usefixtures("log")
def test_stop_strings_are_applied_here(provider: EngineProvider) -> None:
    request = GenerationRequest(prompt="x", stop=("Bye", " is", "zzz"), max_tokens=6)
    answer = load(provider).generate(request)
    assert answer.text == "The answer"
    assert answer.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("output", "tokens", "reason"),
    [
        ('{"text": "a"}', 0, FinishReason.STOP),
        ('{"text": "a", "tokens_generated": 3}', 3, FinishReason.STOP),
        ('{"text": "a", "tokens_generated": 8}', 8, FinishReason.LENGTH),
        ('{"text": "a", "token_ids": [1, 2]}', 2, FinishReason.STOP),
        ('{"text": "a", "finish_reason": "length"}', 0, FinishReason.LENGTH),
    ],
)
@pytest.mark.usefixtures("log")
def test_tokens_are_counted_where_they_are_told(
    provider: EngineProvider,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    tokens: int,
    reason: FinishReason,
) -> None:
    engine = load(provider)
    monkeypatch.setenv("FAKE_APR", output)
    answer = engine.generate(PLAIN)
    assert (answer.text, answer.completion_tokens, answer.finish_reason) == ("a", tokens, reason)


@pytest.mark.parametrize("key", TEXT_KEYS)
def test_the_text_is_found_under_each_key(key: str) -> None:
    assert parse_answer(json.dumps({key: "x", "model": "m"})) == AprAnswer("x")


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ('{"choices": [{"text": "x", "finish_reason": "length"}]}', AprAnswer("x", cut_off=True)),
        ('{"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 2, '
         '"prompt_tokens": 9}}', AprAnswer("x", 2, prompt_tokens=9)),
        ('{"result": {"text": "x"}}', AprAnswer("x")),
        ('{\n "text": "{\\"text\\": 1}\\n{"\n}', AprAnswer('{"text": 1}\n{')),
        ('{"text": ""}', AprAnswer("")),
        ('INFO {"text": "log"}\n {"text": "x"}\n{"tok_s": 3}', AprAnswer("x")),
        ('{"text": "x", "tokens_generated": true, "token_ids": ["a"]}', AprAnswer("x")),
        ('{"text": "x", "token_ids": [3, 4]}', AprAnswer("x", token_ids=(3, 4))),
    ],
)  # fmt: skip
def test_answers_are_read(output: str, answer: AprAnswer) -> None:
    assert parse_answer(output) == answer


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("Hello, I am a banner", "expected a JSON object, found Hello, I am a banner"),
        ('"text"', "expected a JSON object"),
        ('[{"text": "x"}]', "expected a JSON object"),
        ('{"text": "x"', "expected a JSON object"),
        ('{"text": 5}', "expected a text under text, "),
        ('{"tok_s": 3}', "expected a text under text, "),
        ('{"choices": [{"text": "a"}, {"text": "b"}]}', "expected a text under text, "),
        ('{"text": "a"}\n{"text": "b"}', "expected one JSON object with a text, found 2: "),
        ('{"error": {"code": 1}}', "it reports {'code': 1}"),
        ("[" * 50 + "\n" + '{"a":' * 100_000, "expected a JSON object"),
    ],
)
def test_raw_output_is_never_an_answer(output: str, told: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse_answer(output)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ("", None),
        ("the thread is fine", None),
        ("thread 'main' panicked at src/a.rs:1:2:\nboom\nnote: run", "boom at src/a.rs:1:2"),
        ("thread 'main' panicked at 'boom', src/a.rs:1:2\nnote", "'boom', src/a.rs:1:2"),
        ("x\nthread '<unnamed>' (7) panicked at src/a.rs:1:2:\nboom", "boom at src/a.rs:1:2"),
    ],
)
def test_panics_are_told(errors: str, told: str | None) -> None:
    assert panic_in(errors) == told
