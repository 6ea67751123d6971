from __future__ import annotations

import io
import json
import math

import pytest

from pytest_aprqa.cli.progress import ProgressLine
from pytest_aprqa.cli.screen import Screen, is_fancy, write_json
from pytest_aprqa.cli.sizes import told_bytes, told_count, told_rate
from tests.cli.conftest import Terminal


def test_only_a_terminal_without_no_color_is_fancy(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_fancy(terminal)
    assert not is_fancy(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "")
    assert is_fancy(terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_fancy(terminal)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not is_fancy(terminal)


def test_a_plain_table_is_aligned_and_cut_nowhere() -> None:
    stream = io.StringIO()
    name = "model.layers.0." + "x" * 100
    rows = [[name, "12"], ["日本", "3"]]
    Screen(stream).table(["name", "bytes"], rows, right=["bytes"])
    width = len(name)
    assert stream.getvalue().splitlines() == [
        "name".ljust(width) + "  bytes",
        f"{name}     12",
        "日本".ljust(width - 2) + "      3",
    ]


def test_a_table_on_a_terminal_holds_every_cell(terminal: Terminal) -> None:
    name = "x" * 200
    rows = [["[bold]w[/bold]", "12"], [name, "3"]]
    Screen(terminal).table(["name", "bytes"], rows, right=["bytes"])
    lines = terminal.getvalue().splitlines()
    assert "\x1b[1mname" in lines[1]
    assert [line.split() for line in lines if "12" in line or name in line] == rows


def test_a_style_is_seen_on_a_terminal_only(terminal: Terminal) -> None:
    plain = io.StringIO()
    for stream in (plain, terminal):
        Screen(stream).line("healthy", style="green")
    assert plain.getvalue() == "healthy\n"
    assert terminal.getvalue() == "\x1b[32mhealthy\x1b[0m\n"


@pytest.mark.parametrize("fancy", [False, True])
def test_no_control_character_of_a_file_reaches_the_terminal(
    terminal: Terminal, fancy: bool
) -> None:
    stream = terminal if fancy else io.StringIO()
    screen = Screen(stream)
    screen.line("a\x1b[2Jb")
    screen.pairs({"k\x07": "v\x1b]0;title\x07"})
    screen.table(["c"], [["x\x1b[31m\n\udc80"]])
    told = stream.getvalue()
    assert "a\\x1b[2Jb" in told
    assert "k\\x07  v\\x1b]0;title\\x07" in told
    assert "x\\x1b[31m\\n\\udc80" in told
    assert "\x1b[2J" not in told
    assert "\x07" not in told


def test_json_has_no_nan_and_is_always_utf_8() -> None:
    stream = io.StringIO()
    value = {"a": math.nan, "b": [math.inf, 1.5, (2, -math.inf)], "c": "ü\udc80", "d": {1: True}}
    write_json(value, stream)
    stream.getvalue().encode("utf-8")
    assert json.loads(stream.getvalue()) == {
        "a": None,
        "b": [None, 1.5, [2, None]],
        "c": "ü\udc80",
        "d": {"1": True},
    }
    assert list(json.loads(stream.getvalue())) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1536, "1.54 kB"),
        (999_600, "1 MB"),
        (4_500_000_000, "4.5 GB"),
        (5e18, "5e+03 PB"),
    ],
)
def test_bytes_in_words(count: float, told: str) -> None:
    assert told_bytes(count) == told


def test_counts_and_rates_in_words() -> None:
    assert told_count(1024) == "1,024"
    assert told_count(7_241_732_096) == "7,241,732,096 (7.24 billion)"
    assert told_rate(5_000_000, 2.0) == "2.5 MB/s"
    assert told_rate(5_000_000, 0.0) == ""


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_shown_on_a_terminal_a_few_times_a_second(terminal: Terminal) -> None:
    clock = Clock()
    with ProgressLine(bytes_counted=True, stream=terminal, clock=clock) as progress:
        clock.now = 0.05
        progress("a", 1_000_000, 10_000_000)
        clock.now = 2.0
        progress("b", 5_000_000, 10_000_000)
        clock.now = 2.01
        progress("c", 6_000_000, 10_000_000)
        progress("d" * 200, 10_000_000, 10_000_000)
    shown = terminal.getvalue().split("\r\x1b[2K")
    assert shown[0] == ""
    assert shown[1] == "50 %, 5 MB of 10 MB, 2.5 MB/s: b"
    assert shown[2].startswith("100 %, 10 MB of 10 MB")
    assert len(shown[2]) == 79
    assert shown[3:] == [""]


def test_progress_by_tensors_counts_them(terminal: Terminal) -> None:
    clock = Clock()
    with ProgressLine(bytes_counted=False, stream=terminal, clock=clock) as progress:
        progress("w", 3, 3)
    assert "100 %, 3 of 3 tensors: w" in terminal.getvalue()


def test_progress_is_silent_without_a_terminal() -> None:
    stream = io.StringIO()
    with ProgressLine(bytes_counted=True, stream=stream) as progress:
        progress("w", 10, 10)
    assert stream.getvalue() == ""
