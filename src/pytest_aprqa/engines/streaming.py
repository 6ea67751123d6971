"""Tell an answer while it grows, only as much of it as nothing can take back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a decoder makes of bytes that are not a whole character, or not yet."""


def settled(text: str, stops: Sequence[str]) -> str:
    """The part of a growing text that stays: no unfinished character, no beginning of a stop.

    A stop string that the text already holds whole is not looked for; whoever ends the answer
    there cuts the text first.
    """
    whole = text.rstrip(UNFINISHED)
    held = max((_begun(whole, stop) for stop in stops), default=0)
    return whole[: len(whole) - held]


def _begun(text: str, stop: str) -> int:
    """How many characters at the text's end are a beginning of the stop string."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class Teller:
    """Passes a growing text on piece by piece; the pieces joined are the text told."""

    def __init__(self, tell: Callable[[str], bool], stops: Sequence[str]) -> None:
        self._tell = tell
        self._stops = stops
        self.told = ""
        """What has been told so far."""

    def grow(self, text: str) -> bool:
        """The text as it is now; false when the listener wants no more.

        The listener is called each time, with an empty piece where nothing more is settled, so
        that it can end an answer at any token.
        """
        piece = settled(text, self._stops)
        return self._tell("") if self.told.startswith(piece) else self._pass_on(piece)

    def finish(self, text: str) -> None:
        """The text as it stays.

        Raises:
            ValueError: it does not go on from what was told.
        """
        if text != self.told:
            self._pass_on(text)

    def _pass_on(self, text: str) -> bool:
        if not text.startswith(self.told):
            raise ValueError(
                f"the text {text[-40:]!r} does not go on from {self.told[-40:]!r}, which was told "
                "already: the tokenizer writes tokens otherwise when others follow them"
            )
        piece, self.told = text[len(self.told) :], text
        return self._tell(piece)
