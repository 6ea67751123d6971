"""An interrupt waits for the end of a piece of work, and then is one."""

from __future__ import annotations

import signal
import threading

import pytest

from pytest_aprqa.plugin.undisturbed import undisturbed


def test_an_interrupt_waits_until_the_work_is_done() -> None:
    done: list[str] = []

    def work() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            done.append("written")
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["written"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens() -> None:
    with undisturbed():
        inside = signal.getsignal(signal.SIGINT)
    assert inside is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_of_the_work_is_told() -> None:
    with pytest.raises(ValueError, match="broken"), undisturbed():
        raise ValueError("broken")


def test_other_threads_are_left_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with undisturbed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
