"""The bank of short programs, most of them rendered from one table into nine languages."""

from __future__ import annotations

from dataclasses import dataclass

from embedded_model.code_snippets import SNIPPETS


@dataclass(frozen=True)
class Program:
    """A short program: its language, what it does ("add two numbers"), and its source."""

    language: str
    task: str
    source: str


NUMBER_TASKS = (
    ("double", "double a number", "n * 2"),
    ("square", "square a number", "n * n"),
    ("cube", "cube a number", "n * n * n"),
    ("increment", "add one to a number", "n + 1"),
    ("negate", "negate a number", "-n"),
    ("last_digit", "get the last digit of a number", "n % 10"),
)
CHECK_TASKS = (
    ("is_even", "check if a number is even", "n % 2 == 0"),
    ("is_odd", "check if a number is odd", "n % 2 == 1"),
    ("is_positive", "check if a number is positive", "n > 0"),
    ("is_negative", "check if a number is negative", "n < 0"),
    ("is_zero", "check if a number is zero", "n == 0"),
)
PAIR_TASKS = (
    ("add", "add two numbers", "a + b"),
    ("subtract", "subtract two numbers", "a - b"),
    ("multiply", "multiply two numbers", "a * b"),
    ("divide", "divide two numbers", "a / b"),
    ("rectangle_area", "compute the area of a rectangle", "a * b"),
)
TABLES = (("users", "age"), ("orders", "total"), ("products", "price"), ("employees", "salary"))
SQL_TASKS = (
    ("select all {t}", "SELECT * FROM {t};"),
    ("select all rows from {t}", "SELECT * FROM {t};"),
    ("get all {t}", "SELECT * FROM {t};"),
    ("select the names of all {t}", "SELECT name FROM {t};"),
    ("count the {t}", "SELECT COUNT(*) FROM {t};"),
    ("count the rows in {t}", "SELECT COUNT(*) FROM {t};"),
    ("get the average {c} of {t}", "SELECT AVG({c}) FROM {t};"),
    ("get the maximum {c} of {t}", "SELECT MAX({c}) FROM {t};"),
    ("sort {t} by {c}", "SELECT * FROM {t} ORDER BY {c};"),
    ("find {t} with {c} above 50", "SELECT * FROM {t} WHERE {c} > 50;"),
    ("delete all rows from {t}", "DELETE FROM {t};"),
    ("get the top ten {t} by {c}", "SELECT * FROM {t} ORDER BY {c} DESC LIMIT 10;"),
    (
        "create the {t} table",
        "CREATE TABLE {t} (\n  id INTEGER PRIMARY KEY,\n  name TEXT,\n  {c} INTEGER\n);",
    ),
)

_BRACES_4 = "{head} {{\n    return {body};\n}}"
_BRACES_2 = "{head} {{\n  return {body};\n}}"
# language -> (naming, head with one number, head of a check, head with two numbers, body)
STYLES = {
    "Python": (
        "snake",
        "def {f}(n):",
        "def {f}(n):",
        "def {f}(a, b):",
        "{head}\n    return {body}",
    ),
    "JavaScript": (
        "camel",
        "function {f}(n)",
        "function {f}(n)",
        "function {f}(a, b)",
        _BRACES_2,
    ),
    "TypeScript": (
        "camel",
        "function {f}(n: number): number",
        "function {f}(n: number): boolean",
        "function {f}(a: number, b: number): number",
        _BRACES_2,
    ),
    "Rust": (
        "snake",
        "fn {f}(n: i64) -> i64",
        "fn {f}(n: i64) -> bool",
        "fn {f}(a: i64, b: i64) -> i64",
        "{head} {{\n    {body}\n}}",
    ),
    "Go": (
        "camel",
        "func {f}(n int) int",
        "func {f}(n int) bool",
        "func {f}(a int, b int) int",
        "{head} {{\n\treturn {body}\n}}",
    ),
    "Java": (
        "camel",
        "static int {f}(int n)",
        "static boolean {f}(int n)",
        "static int {f}(int a, int b)",
        _BRACES_4,
    ),
    "C": ("snake", "int {f}(int n)", "int {f}(int n)", "int {f}(int a, int b)", _BRACES_4),
    "C++": (
        "snake",
        "auto {f}(int n) -> int",
        "auto {f}(int n) -> bool",
        "auto {f}(int a, int b) -> int",
        _BRACES_4,
    ),
}
ALL_TASKS_IN = ("Python", "JavaScript", "Rust")
FEW_TASKS = ("double", "square", "is_even", "add", "subtract", "multiply")


def camel_case(name: str) -> str:
    """Turn `is_even` into `isEven`."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def _rendered_programs() -> list[Program]:
    programs = []
    for language, (naming, number, check, pair, layout) in STYLES.items():
        groups = ((NUMBER_TASKS, number), (CHECK_TASKS, check), (PAIR_TASKS, pair))
        for tasks, head in groups:
            for name, task, body in tasks:
                if language not in ALL_TASKS_IN and name not in FEW_TASKS:
                    continue
                function = camel_case(name) if naming == "camel" else name
                if language in ("JavaScript", "TypeScript"):
                    body = body.replace("==", "===")
                source = layout.format(head=head.format(f=function), body=body)
                programs.append(Program(language, task, source))
    return programs


def _sql_programs() -> list[Program]:
    return [
        Program("SQL", task.format(t=table, c=column), source.format(t=table, c=column))
        for table, column in TABLES
        for task, source in SQL_TASKS
    ]


def _written_programs() -> list[Program]:
    return [
        Program(language, task, source)
        for language, snippets in SNIPPETS.items()
        for task, source in snippets
    ]


BANK = tuple(_rendered_programs() + _written_programs() + _sql_programs())
