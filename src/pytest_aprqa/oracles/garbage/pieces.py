"""Whether the characters follow each other as in text, or as in vocabulary pieces drawn at random.

A small convolutional network reads the characters and gives each one evidence between healthy text
and soup from the 13 characters on either side; the sum over the answer decides. It is what finds
`ky amet++Xck::v INTEGERHelloIM my weitfuncIMA return1ria`, where each piece is a word's and only
the junctions are wrong. `tools/train_soup_detector.py` made the weights in `pieces.npz`; its
docstring names what it was trained on, and `docs/oracles-garbage.md` has the measured rates.

Scripts other than Latin, and chunks that look like a hash, a key or base64, give no evidence.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pytest_aprqa.oracles.text import quoted

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]

FEWEST = 16
"""Known characters that an answer must have to be judged: below, an answer is a word or two."""

LIMIT = 0.0
"""Evidence from which a text is soup; see docs/oracles-garbage.md for the rates on held-out text."""

READ = 8_000
"""Characters read: a soup of that length has hundreds of times the evidence needed."""

_PLAIN = str.maketrans(
    {
        "\u00df": "ss", "\u00f8": "o", "\u00e6": "ae", "\u0111": "d", "\u0142": "l", "\u0131": "i",
        "\u00fe": "th", "\u00f0": "d", "\u0153": "oe", "\u00d8": "O", "\u0110": "D", "\u0141": "L",
        "\u00c6": "Ae", "\u0152": "Oe", "\u0259": "e", "\u2018": "'", "\u2019": "'",
        "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"',
        "\u2013": "-", "\u2014": "-", "\u2026": "...", "\t": "    ",
    }
)  # fmt: skip
_OPAQUE = re.compile(r"[A-Za-z0-9+/_=-]{16,}")
_SWITCH = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])")
_SWITCHES = 4
"""Changes between letter and digit that tell a hash or a key from a long name."""
_UNKNOWN = re.compile(r"[^\n -~]+")
_RUN = re.compile(r"([^A-Za-z])\1{3,}")


def problem(text: str) -> str | None:
    """Return what is wrong if the text is soup, else None."""
    known = folded(text[:READ])
    if len(known) - known.count("\0") < FEWEST:
        return None
    if (weight := evidence(known)) <= LIMIT:
        return None
    return f"its characters follow each other as in random pieces ({weight:.1f}): {quoted(text)}"


def folded(text: str) -> str:
    """Return the text in ASCII: accents dropped, runs of one symbol cut to three, unknowns NUL."""
    text = _OPAQUE.sub(_without_keys, text.replace("\0", " ")).translate(_PLAIN)
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        text = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _RUN.sub(r"\1\1\1", _UNKNOWN.sub("\0", text))


def _without_keys(chunk: re.Match[str]) -> str:
    return "\0" if len(_SWITCH.findall(chunk.group())) >= _SWITCHES else chunk.group()


def evidence(known: str) -> float:
    """Return the network's log odds that a folded text is soup."""
    import numpy as np

    net = _network()
    codes = np.frombuffer(("\n" + known).encode("ascii"), dtype=np.uint8).astype(np.int64)
    codes = np.where(codes == 10, 1, np.where(codes < 32, 0, codes - 30))
    mask = (codes > 0).astype(np.float32)[:, None]
    hidden = net["embedding"][codes] * mask
    hidden = _layer(hidden, net["near"], net["near_bias"], 1) * mask
    hidden = _layer(hidden, net["mid"], net["mid_bias"], 2) * mask
    hidden = hidden + _layer(hidden, net["far"], net["far_bias"], 4)
    each = np.tanh(hidden @ net["vote"] + net["vote_bias"]) * mask[:, 0]
    return float(each.sum() * 0.5 + net["prior"][0])


def _layer(hidden: Array, weights: Array, bias: Array, step: int) -> Array:
    """Convolve along the text, taps `step` characters apart, and rectify."""
    import numpy as np

    taps = weights.shape[0]
    margin = step * (taps // 2)
    padded = np.pad(hidden, ((margin, margin), (0, 0)))
    total = sum(
        padded[tap * step : tap * step + len(hidden)] @ weights[tap] for tap in range(taps)
    )
    return np.maximum(total + bias, 0)


@cache
def _network() -> dict[str, Array]:
    """Load the weights once; float16 in the file."""
    import numpy as np

    with (
        (files("pytest_aprqa.oracles.garbage") / "pieces.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return {name: arrays[name].astype(np.float32) for name in arrays.files}
