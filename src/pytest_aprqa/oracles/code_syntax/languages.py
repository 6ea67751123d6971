"""Which language a fence's tag, a question's words or a question's code names."""

from __future__ import annotations

import re
from typing import get_args

from pytest_aprqa.domain.oracle_spec import Language

LANGUAGES: tuple[Language, ...] = get_args(Language)

_TAGS: dict[str, Language] = {
    "py": "python", "python3": "python", "py3": "python", "python2": "python",
    "js": "javascript", "jsx": "javascript", "node": "javascript", "mjs": "javascript",
    "ts": "typescript", "tsx": "typescript", "rs": "rust", "golang": "go",
    "c++": "cpp", "cc": "cpp", "cxx": "cpp", "hpp": "cpp", "h": "c",
    "sh": "bash", "shell": "bash", "zsh": "bash", "console": "bash",
    "mysql": "sql", "postgresql": "sql", "postgres": "sql", "sqlite": "sql", "plsql": "sql",
}  # fmt: skip

NEUTRAL_TAGS = frozenset({"", "text", "txt", "plaintext", "output", "code", "none", "pseudocode"})
"""Fence tags that name no language; their content may be any, or a program's output."""

_CODE_STARTS: tuple[tuple[Language, str], ...] = (
    ("python", r"(?:async\s+)?def\s+\w+\s*\(|class\s+\w+\s*(?:\([^)]*\))?\s*:"
    r"|from\s+[\w.]+\s+import\b"
     r"|import\s+[\w.]+(?:\s+as\s+\w+)?\s*(?:$|\n)|@\w+[^\n]*\n\s*(?:def|class)\b|if\s+__name__"),
    ("rust", r"(?:pub\s+)?(?:async\s+)?(?:unsafe\s+)?fn\s+\w+\s*[<(]|impl(?:<[^>]*>)?\s+\w+"
    r"|use\s+\w+::"
     r"|(?:pub\s+)?(?:struct|enum|trait)\s+\w+[^\n]*\{|let\s+mut\s|#\[derive"),
    ("typescript", r"(?:export\s+)?(?:async\s+)?function\s+\w+\s*\([^)]*:\s*\w|interface\s+\w+\s*\{"
     r"|(?:const|let)\s+\w+\s*:\s*\w+"),
    ("javascript", r"(?:export\s+)?(?:async\s+)?function\s*\*?\s*\w*\s*\(|(?:const|let"
    r"|var)\s+\w+\s*="
     r"|class\s+\w+\s*(?:extends\s+\w+\s*)?\{"),
    ("go", r"package\s+\w+\s*(?:$|\n)|func\s+(?:\([^)]*\)\s*)?\w+\s*\("),
    ("java", r"(?:public|private|protected)\s+(?:static\s+)?(?:final\s+)?[\w<>\[\]]+\s+\w+\s*[({]"),
    ("cpp", r"#include\s*<(?:iostream|vector|string|map|memory|algorithm)>|template\s*<"
    r"|using\s+namespace"
     r"|std::"),
    ("c", r"#include\s*[<\"]|(?:static\s+)?(?:unsigned\s+)?(?:int|void|char|double|float"
    r"|long)\s*\*?\s*"
     r"\w+\s*\([^)]*\)\s*\{?"),
    ("sql", r"(?:SELECT\s+[\w*\"(]|INSERT\s+INTO\s|CREATE\s+(?:TABLE|INDEX|VIEW)\s"
    r"|UPDATE\s+\w+\s+SET\s"
     r"|DELETE\s+FROM\s|ALTER\s+TABLE\s)"),
    ("bash", r"#!\s*/(?:usr/)?bin/(?:env\s+)?(?:ba)?sh"),
)  # fmt: skip
_STARTS = tuple((name, re.compile(rf"\s*(?:{pattern})")) for name, pattern in _CODE_STARTS)

_NAMES: tuple[tuple[Language, str], ...] = (
    ("typescript", r"typescript"),
    ("javascript", r"javascript|node\.?js|\bjs\b"),
    ("python", r"\bpython3?\b"),
    ("rust", r"\brust\b"),
    ("go", r"\bgolang\b|\bin go\b|\bgo (?:function|program|code|struct|method|snippet)\b"),
    ("java", r"\bjava\b"),
    ("cpp", r"c\+\+|\bcpp\b"),
    ("c", r"\bin c\b(?![+#])|\bc (?:function|program|code|struct|snippet)\b"),
    ("sql", r"\bsql\b|\bsqlite\b|\bmysql\b|\bpostgres"),
    ("bash", r"\bbash\b|\bshell (?:script|command)\b"),
)
_NAMED = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _NAMES)

_ASKS = re.compile(
    r"\b(?:write|implement|create|complete|generate|show|give|provide|fix|refactor|convert"
    r"|translate"
    r"|define|code|make|develop|build|how (?:do|can|would) (?:i|you))\b.{0,120}?"
    r"\b(?:functions?|program|script|code|class|method|query|snippet|command|loop|statement|struct"
    r"|algorithm|implementation|table|one-?liner|closure|lambda|decorator|unit tests?)\b",
    re.IGNORECASE | re.DOTALL,
)

QUESTION_READ = 4_000
"""Characters of a question searched for what it asks."""


def tagged(tag: str) -> Language | None:
    """Return the language a fence's tag names."""
    tag = tag.strip().lower()
    return next((name for name in LANGUAGES if name == tag), _TAGS.get(tag))


def starting(question: str) -> Language | None:
    """Return the language of a question that is itself the beginning of code."""
    head = question[:QUESTION_READ]
    return next((name for name, pattern in _STARTS if pattern.match(head)), None)


def named(question: str) -> Language | None:
    """Return the language a question names in words; None for none or several."""
    head = question[:QUESTION_READ]
    found = [name for name, pattern in _NAMED if pattern.search(head)]
    return found[0] if len(found) == 1 else None


def asks_for_code(question: str) -> bool:
    """Tell a question that asks for code in words, in a fence, or by being its beginning."""
    head = question[:QUESTION_READ]
    if "```" in head or starting(head):
        return True
    asks = _ASKS.search(head) is not None
    names = re.search(r"\b(?:in|using)\b", head) is not None and named(head) is not None
    return asks or (names and re.search(r"\bwrite|implement|code\b", head, re.I) is not None)
