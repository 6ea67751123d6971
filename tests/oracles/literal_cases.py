# fmt: off
# ruff: noqa: E501 -- one case is one line.
"""Hand-labelled answers for exact, contains, one_of and regex."""

from __future__ import annotations

from typing import Any

Rows = tuple[tuple[dict[str, Any], str, bool], ...]


def _rows(settings: dict[str, Any], right: tuple[str, ...], wrong: tuple[str, ...]) -> Rows:
    return tuple((settings, text, True) for text in right) + tuple(
        (settings, text, False) for text in wrong
    )


EXACT: Rows = (
    *_rows({"expected": "Paris"}, ("Paris", " Paris\n", "\tParis", "Paris "), ("paris", "Paris.", "Pari", "", "Paris Paris", "PARIS", "P aris", "London", "Paris\x00")),
    *_rows({"expected": "Paris", "ignore_case": True}, ("paris", "PARIS", "Paris", " pArIs "), ("Paris.", "", "Pariss", "par is")),
    *_rows({"expected": "4"}, ("4", "4\n", "  4"), ("four", "4.", "4.0", "14", "+4", "\uff14")),
    *_rows({"expected": "  a b  "}, ("a b", " a b "), ("a  b", "ab", "a\nb")),
    *_rows({"expected": "Stra\u00dfe", "ignore_case": True}, ("STRASSE", "stra\u00dfe"), ("Strase", "strasse.")),
    *_rows({"expected": "\u5317\u4eac"}, ("\u5317\u4eac",), ("\u5317", "\u4eac\u5317", "Beijing")),
)

CONTAINS: Rows = (
    *_rows({"expected": "Paris"}, ("Paris", "It is Paris.", "paris", "PARISIAN", "the city: paris"), ("", "London", "P a r i s", "Pari", "Par\nis")),
    *_rows({"expected": "Paris", "ignore_case": False}, ("Paris", "In Paris!"), ("paris", "PARIS", "", "pAris")),
    *_rows({"expected": ["red", "blue"]}, ("red and blue", "Blue, red", "REDBLUE", "redblue", "blue\nred"), ("red", "blue", "green", "", "re d blue", "rd blue")),
    *_rows({"expected": ["def ", "return"], "ignore_case": False}, ("def f(): return 1", "return def "), ("def f(): pass", "Def f(): Return", "deff return")),
    *_rows({"expected": "a\nb"}, ("a\nb", "xa\nby"), ("a b", "ab", "a\r\nb")),
    *_rows({"expected": "\u5317\u4eac"}, ("\u5728\u5317\u4eac\u3002",), ("\u5317 \u4eac", "Beijing")),
)

ONE_OF: Rows = (
    *_rows({"expected": ["yes", "no"]}, ("yes", "No.", "YES!", " no\n", "'yes'", "**No**", "\u201cyes\u201d", "no?", "Yes,", "`yes`"), ("", "maybe", "yes no", "yesno", "ye", "not", "y es", "yes, no", "yes because", "...", "no way")),
    *_rows({"expected": ["Paris", "Lyon"], "ignore_case": False}, ("Paris", "Lyon.", "Paris!", '"Lyon"'), ("paris", "LYON", "Nice", "Paris or Lyon", "", "Lyonn")),
    *_rows({"expected": ["New York"]}, ("new york", "New York."), ("New  York", "NewYork", "York", "New", "New\nYork")),
    *_rows({"expected": ["4", "four"]}, ("4", "Four.", "4."), ("5", "14", "4 or four", "+4", "4.5")),
)

REGEX: Rows = (
    *_rows({"pattern": r"\b4\b"}, ("4", "It is 4.", "(4)", "2 + 2 = 4", "4, yes", "-4"), ("14", "", "four", "42", "x4", "4x")),
    *_rows({"pattern": r"^\s*(?i:yes|no)\b"}, ("yes", "No.", "  YES, sure", "no\nway"), ("", "maybe yes", "yesterday", "nothing", "I say no")),
    *_rows({"pattern": r"\d{4}-\d{2}-\d{2}"}, ("2024-05-01", "on 2024-05-01.", "x2024-05-011"), ("2024-5-1", "", "24-05-01", "2024/05/01")),
    *_rows({"pattern": r"def \w+\(.*\):"}, ("def f():", "x\ndef f(a, b):\n  pass", "def f(a)):"), ("def f()", "def (x):", "", "f():", "def f(\n):")),
    *_rows({"pattern": r"(a|b)+c"}, ("ac", "abababc", "xxbc"), ("ab", "c", "", "a c")),
    *_rows({"pattern": r"(?s)begin.*end"}, ("begin\nend", "begin end"), ("beginen", "end begin")),
)
