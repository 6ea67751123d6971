"""What is told while an answer grows is never taken back, and joined it is the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_aprqa.domain.completion import FinishReason, GenerationRequest
from pytest_aprqa.engines.generation import Watch
from pytest_aprqa.engines.streaming import Teller, settled

END = 0


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("abc", (), "abc"),
        ("ab\ufffd", (), "ab"),
        ("ab\ufffd\ufffd", (), "ab"),
        ("a\ufffdb", (), "a\ufffdb"),
        ("abc", ("cd",), "ab"),
        ("abc", ("bcd", "cx"), "a"),
        ("abab", ("abc",), "ab"),
        ("ab\ufffd", ("b€",), "a"),
        ("abc", ("x",), "abc"),
        ("", ("x",), ""),
    ],
)
def test_what_may_still_change_is_held_back(
    text: str, stops: tuple[str, ...], expected: str
) -> None:
    assert settled(text, stops) == expected


def test_a_text_that_does_not_go_on_is_an_error() -> None:
    teller = Teller(lambda _piece: True, ())
    teller.grow("abc")
    with pytest.raises(ValueError, match="the text 'abd' does not go on from 'abc'"):
        teller.finish("abd")


# Tokens as bytes: whole characters, halves of them, and bytes that are no text at all.
PIECES = st.sampled_from(
    [b"a", b"b", b"ab", b"\xe2", b"\x82", b"\xac", b"\xff", b" ", "é€".encode()]
)
STOPS = st.lists(st.sampled_from(["a", "ab", "aba", "b ", "€", "\ufffd", "ba"]), max_size=3)


@given(
    pieces=st.lists(PIECES, min_size=1, max_size=12),
    stops=STOPS,
    ends=st.booleans(),
    patience=st.integers(1, 14),
)
def test_the_pieces_joined_are_the_answer(
    pieces: list[bytes], stops: list[str], ends: bool, patience: int
) -> None:
    request = GenerationRequest(prompt="x", max_tokens=len(pieces), stop=tuple(stops))

    def answered(teller: Teller | None) -> Watch:
        watch = Watch(
            request,
            end_ids=frozenset({END}),
            text_of=lambda ids: b"".join(pieces[i - 1] for i in ids).decode("utf-8", "replace"),
            teller=teller,
        )
        watch.start()
        for token in [*range(1, len(pieces) + 1 - ends), *([END] if ends else [])]:
            if watch.note(token):
                break
        watch.stop()
        return watch

    plain = answered(None)
    heard: list[str] = []

    def listen(piece: str) -> bool:
        heard.append(piece)
        return True

    teller = Teller(listen, request.stop)
    watch = answered(teller)
    teller.finish(watch.text())
    assert "".join(heard) == watch.text() == plain.text()
    assert watch.token_ids == plain.token_ids
    assert watch.finish_reason == plain.finish_reason

    kept: list[str] = []

    def leave(piece: str) -> bool:
        kept.append(piece)
        return len(kept) < patience

    left = Teller(leave, request.stop)
    cut = answered(left)
    left.finish(cut.text())
    assert "".join(kept) == cut.text()
    assert plain.text().startswith(cut.text())
    if len(cut.token_ids) < len(plain.token_ids):
        assert len(cut.token_ids) == patience
        assert cut.finish_reason is FinishReason.TIMEOUT
