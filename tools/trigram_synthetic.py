"""Healthy text that answers hold and files rarely do: keys, moves, formulas, tables, sums."""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from collections.abc import Callable

from trigram_corpus import Corpus

Random = random.Random


def made_up(rng: Random, corpus: Corpus) -> str:
    """Draw one text of any of the forms."""
    if rng.random() < 0.25:
        return _words(rng, corpus)
    return rng.choice(FORMS)(rng)


def _words(rng: Random, corpus: Corpus) -> str:
    """List words of one text: names, identifiers, keywords."""
    words: list[str] = []
    while len(words) < 4:
        words = [word.strip(".,;:()\"'") for word in corpus.text(rng).split()]
        words = [word for word in words if word.isalpha()]
    joint = rng.choice((", ", "\n", " ", "\n- ", " | "))
    return joint.join(rng.choice(words) for _ in range(rng.randint(4, 30)))


def _base64(rng: Random) -> str:
    return base64.b64encode(rng.randbytes(rng.randint(12, 200))).decode()


def _hex(rng: Random) -> str:
    octets = rng.randbytes(rng.randint(8, 60))
    return octets.hex(" ") if rng.random() < 0.5 else octets.hex()


def _identifiers(rng: Random) -> str:
    return "\n".join(str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(rng.randint(1, 4)))


def _chess(rng: Random) -> str:
    def move() -> str:
        piece = rng.choice(("", "", "", "N", "B", "R", "Q", "K"))
        square = rng.choice("abcdefgh") + str(rng.randint(1, 8))
        capture = rng.choice(("", "", "x")) if piece else ""
        plain = piece + capture + square + rng.choice(("", "", "", "+"))
        return rng.choice((plain, plain, plain, plain, "O-O"))

    return " ".join(f"{turn}. {move()} {move()}" for turn in range(1, rng.randint(4, 40)))


def _chemistry(rng: Random) -> str:
    parts = ("C", "H", "O", "N", "Na", "Cl", "Fe", "S", "K", "Ca", "Mg", "(OH)", "(SO4)", "(NO3)")

    def formula() -> str:
        count = rng.choice(("", "2 ", "3", "4"))
        return count + "".join(
            rng.choice(parts) + rng.choice(("", "2", "3", "4", "6"))
            for _ in range(rng.randint(1, 4))
        )

    def reaction() -> str:
        return f"{formula()} + {formula()} {rng.choice(('->', '='))} {formula()} + {formula()}"

    return rng.choice((", ", "\n")).join(reaction() for _ in range(rng.randint(1, 4)))


def _keys(rng: Random) -> str:
    size, groups = rng.randint(4, 6), rng.randint(3, 5)
    signs = string.ascii_uppercase + string.digits
    return "\n".join(
        "-".join("".join(rng.choices(signs, k=size)) for _ in range(groups))
        for _ in range(rng.randint(1, 4))
    )


def _sums(rng: Random) -> str:
    left, right = rng.randint(0, 999), rng.randint(0, 999)
    form = rng.choice(
        (
            "{a} {o} {b} = {c}", "The answer is {c}.", "To calculate {a} {o} {b}, we get {c}.",
            "**{c}**", "$$ {a} {o} {b} = {c} $$", "Step 1: {a} {o} {b}\nStep 2: {c}\n\nAnswer: {c}",
            "{a}x + {b}y = {c}, x = {b}",
        )
    )  # fmt: skip
    return "\n".join([form.format(a=left, o=rng.choice("+-*/"), b=right, c=left + right)] * 2)


def _table(rng: Random) -> str:
    def cell() -> str:
        number = rng.choice((str(rng.randint(0, 9999)), f"{rng.random() * 100:.2f}"))
        words = ("NA", "true", "yes", "no", "A", "B", "x", "-", "alice", "bob", "Paris", "red")
        return rng.choice((number, rng.choice(words)))

    before, joint, after = rng.choice((("", ",", ""), ("| ", " | ", " |"), ("", "\t", "")))
    return "\n".join(
        before + joint.join(cell() for _ in range(4)) + after for _ in range(rng.randint(2, 9))
    )


def _letters(rng: Random) -> str:
    alphabet = rng.choice((string.ascii_uppercase, string.ascii_lowercase, "ACGT", "XO.", "ABCDEF"))
    joint = rng.choice(("", " ", ", ", " -> ", "\n"))
    if rng.random() < 0.4:
        return joint.join(alphabet)
    return joint.join(rng.choices(alphabet, k=rng.randint(8, 40)))


def _address(rng: Random) -> str:
    place = rng.choice(("example.com", "github.com/foo/bar", "www.youtube.com/watch?v=", "a.org/x"))
    path = "".join(rng.choices(string.ascii_letters + string.digits + "-_", k=rng.randint(8, 40)))
    return f"https://{place}/{path}" + rng.choice(("", f"?id={rng.randint(1, 10**6)}&ref=a", "#L9"))


def _json(rng: Random) -> str:
    values: tuple[object, ...] = (
        rng.randbytes(16).hex(), base64.b64encode(rng.randbytes(32)).decode(), True, None,
        rng.randint(1, 10**6), rng.random(),
        "sha512-" + base64.b64encode(rng.randbytes(48)).decode(),
        [rng.randint(0, 9) for _ in range(5)], rng.choice(("Alice", "Berlin", "ok")),
    )  # fmt: skip
    keys = ("id", "key", "token", "hash", "integrity", "name", "value", "url")
    members = {rng.choice(keys): rng.choice(values) for _ in range(rng.randint(2, 6))}
    return json.dumps(members, indent=rng.choice((None, 2)))


def _numbers(rng: Random) -> str:
    return " ".join(str(rng.randint(0, 10 ** rng.randint(1, 6))) for _ in range(rng.randint(5, 60)))


def _latex(rng: Random) -> str:
    forms = (
        "\\frac{%d}{%d}", "\\int_{%d}^{%d} x\\,dx", "x_{%d}^{%d}", "\\sum_{i=%d}^{n} a_{%d}",
        "\\sqrt{%d+%dx}", "\\alpha_{%d}\\beta^{%d}", "e^{-%d t/%d}",
        "\\left(\\frac{\\partial f_%d}{\\partial x_%d}\\right)",
    )  # fmt: skip
    terms = (rng.choice(forms) % (rng.randint(0, 9), rng.randint(1, 9)) for _ in range(6))
    return (
        "$$" + "".join(term + rng.choice((" +", " -", " =", " \\cdot ")) for term in terms) + "1$$"
    )


def _shell(rng: Random) -> str:
    commands = ("ls -la", "git log --oneline", "cat /etc/hosts", "df -h", "ps aux | grep python")
    outputs = (
        f"-rw-r--r-- 1 root root {rng.randint(1, 10**6)} Jan {rng.randint(1, 30)} 12:04 file.txt",
        f"{rng.randbytes(4).hex()[:7]} Fix bug #{rng.randint(1, 999)}", "127.0.0.1 localhost",
        f"/dev/sda1  {rng.randint(9, 99)}G  {rng.randint(1, 9)}G  {rng.randint(1, 99)}% /",
    )  # fmt: skip
    return "\n".join(f"$ {rng.choice(commands)}\n{rng.choice(outputs)}" for _ in range(2))


FORMS: tuple[Callable[[Random], str], ...] = (
    _base64, _hex, _identifiers, _chess, _chemistry, _keys, _sums, _table, _letters, _address,
    _json, _numbers, _latex, _shell,
)  # fmt: skip
"""Every form but lists of words."""
