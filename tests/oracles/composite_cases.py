# fmt: off

"""Hand-labelled rulings of composites."""

from __future__ import annotations

from typing import Any

C: dict[str, Any] = {"type": "contains", "expected": "yes"}
W: dict[str, Any] = {"type": "contains", "expected": "well"}
N: dict[str, Any] = {"type": "contains", "expected": "no"}
G: dict[str, Any] = {"type": "garbage"}
A: dict[str, Any] = {"type": "arithmetic"}
S: dict[str, Any] = {"type": "code_syntax"}
E: dict[str, Any] = {"type": "exact", "expected": "yes"}

_YES, _NO, _OPEN = "corroborated", "falsified", "inapplicable"
_TALK, _SUM = "How are you?", "What is 2+2?"

# (composite, question, answer, ruling, why)
CASES: tuple[tuple[dict[str, Any], str, str, str, str], ...] = (
    ({"all": [C]}, _TALK, "yes", _YES, "one member holds"),
    ({"all": [C]}, _TALK, "no", _NO, "its member does not"),
    ({"all": [C, W]}, _TALK, "yes, well", _YES, "both"),
    ({"all": [C, W]}, _TALK, "yes", _NO, "one of two"),
    ({"all": [C, W]}, _TALK, "well", _NO, "the other of two"),
    ({"all": [C, W]}, _TALK, "", _NO, "neither"),
    ({"all": [C, A]}, _TALK, "yes", _OPEN, "a member cannot judge"),
    ({"all": [C, A]}, _TALK, "no", _NO, "refuted, though another cannot judge"),
    ({"all": [A, C]}, _TALK, "no", _NO, "the order does not matter"),
    ({"all": [A]}, _TALK, "yes", _OPEN, "none can judge"),
    ({"all": [A, G]}, _SUM, "4", _YES, "both can"),
    ({"all": [A, G]}, _SUM, "5", _NO, "wrong sum"),
    ({"all": [A, G]}, _SUM, "4\x00", _NO, "right sum, but garbage"),
    ({"any": [C]}, _TALK, "yes", _YES, "the one"),
    ({"any": [C]}, _TALK, "no", _NO, "not the one"),
    ({"any": [C, W]}, _TALK, "well", _YES, "one suffices"),
    ({"any": [C, W]}, _TALK, "yes", _YES, "the other suffices"),
    ({"any": [C, W]}, _TALK, "no", _NO, "neither"),
    ({"any": [A, C]}, _TALK, "yes", _YES, "one suffices, the other cannot judge"),
    ({"any": [A, C]}, _TALK, "no", _OPEN, "the one that cannot judge might have held"),
    ({"any": [A, S]}, _TALK, "no", _OPEN, "none can judge"),
    ({"none": [C]}, _TALK, "no", _YES, "it does not hold"),
    ({"none": [C]}, _TALK, "yes", _NO, "it holds"),
    ({"none": [C, W]}, _TALK, "no", _YES, "neither holds"),
    ({"none": [C, W]}, _TALK, "no, well", _NO, "one holds"),
    ({"none": [C, W]}, _TALK, "yes, well", _NO, "both hold"),
    ({"none": [A]}, _TALK, "no", _OPEN, "it cannot judge"),
    ({"none": [A, C]}, _TALK, "no", _YES, "one refuted, one cannot judge"),
    ({"none": [A, C]}, _TALK, "yes", _NO, "one holds"),
    ({"all": [G], "any": [C, W]}, _TALK, "well", _YES, "both parts"),
    ({"all": [G], "any": [C, W]}, _TALK, "no", _NO, "the second part fails"),
    ({"all": [G], "any": [C, W]}, _TALK, "\x07yes", _NO, "the first part fails"),
    ({"all": [G], "none": [N]}, _TALK, "yes", _YES, "both parts"),
    ({"all": [G], "none": [N]}, _TALK, "no", _NO, "the second part fails"),
    ({"all": [G], "any": [C], "none": [N]}, _TALK, "yes", _YES, "three parts"),
    ({"all": [G], "any": [C], "none": [N]}, _TALK, "yes, no", _NO, "the third fails"),
    ({"all": [A], "none": [N]}, _TALK, "yes", _OPEN, "one part is open"),
    ({"all": [A], "none": [N]}, _TALK, "no", _NO, "refuted, though a part is open"),
    ({"any": [A], "all": [E]}, _TALK, "yes", _OPEN, "one part is open"),
    ({"any": [A], "all": [E]}, _SUM, "4", _NO, "the other part fails"),
    ({"all": [{"type": "composite", "any": [C, W]}]}, _TALK, "well", _YES, "nested"),
    ({"all": [{"type": "composite", "any": [C, W]}]}, _TALK, "no", _NO, "nested"),
    ({"none": [{"type": "composite", "all": [C, W]}]}, _TALK, "yes", _YES, "nested in none"),
    ({"none": [{"type": "composite", "all": [C, W]}]}, _TALK, "yes, well", _NO, "nested in none"),
    ({"all": [{"type": "composite", "any": [A]}]}, _TALK, "no", _OPEN, "nested and open"),
)

# (members, question, answer, ruling, why)
APPLICABLE: tuple[tuple[list[dict[str, Any]], str, str, str, str], ...] = (
    ([A, G], _SUM, "4", _YES, "both can judge"),
    ([A, G], _SUM, "5", _NO, "one refutes"),
    ([A, G], _TALK, "I am well.", _YES, "one drops out"),
    ([A, G], _TALK, "aaaaaaaaa", _NO, "the other refutes"),
    ([A, S], _TALK, "I am well.", _OPEN, "none can judge"),
    ([A, S, G], "def f(x):", "\n    return x", _YES, "code"),
    ([A, S, G], "def f(x):", "\n    return (", _NO, "no complete statement"),
)
