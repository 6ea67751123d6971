"""The words of generated prompts: phrasings, programming tasks, facts, texts at the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_aprqa.domain.oracle_spec import Language

ARITHMETIC = (
    "What is {a} {o} {b}?",
    "What is {a}{o}{b}?",
    "What's {a} {o} {b}?",
    "What is {a} {w} {b}?",
    "How much is {a} {o} {b}?",
    "How much is {a} {w} {b}?",
    "Calculate {a} {o} {b}.",
    "Compute {a} {o} {b}.",
    "{a} {o} {b} =",
    "{a}{o}{b}=",
    "What is the result of {a} {o} {b}?",
    "What is the answer to {a} {o} {b}?",
)
"""Questions for numbers `a` and `b`, the operator as a sign `o` or as a word `w`."""

OPERATOR_WORDS = {"+": "plus", "-": "minus", "*": "times"}

CODE = (
    "Write a {language} function to {task}.",
    "Write {language} code to {task}.",
    "Create a {language} function to {task}.",
    "Implement a {language} function to {task}.",
    "Please write {language} code to {task}.",
    "Write a function in {language} to {task}.",
    "Show me {language} code to {task}.",
)
CODE_LANGUAGES: dict[str, Language] = {
    "Python": "python",
    "JavaScript": "javascript",
    "Rust": "rust",
}
"""A language's name in a prompt, and its name for the parser."""
CODE_TASKS = (
    "add two numbers",
    "subtract two numbers",
    "multiply two numbers",
    "divide two numbers",
    "double a number",
    "square a number",
    "check if a number is even",
    "check if a number is odd",
    "check if a number is positive",
    "check if a number is prime",
    "reverse a string",
    "count the vowels in a string",
    "compute the factorial of a number",
    "find the largest number in a list",
    "sum a list of numbers",
)

SQL = (
    "Write a SQL query to {task}.",
    "Write an SQL query to {task}.",
    "Create a SQL query to {task}.",
    "Show me SQL to {task}.",
)
SQL_TASKS = (
    "select all {table}",
    "count the rows in {table}",
    "select the names of all {table}",
    "delete all rows from {table}",
    "get the average {column} of {table}",
    "get the maximum {column} of {table}",
    "sort {table} by {column}",
)
SQL_TABLES = (("users", "age"), ("orders", "total"), ("products", "price"), ("employees", "salary"))

CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Russia": "Moscow",
    "Egypt": "Cairo",
    "Greece": "Athens",
    "Portugal": "Lisbon",
    "Norway": "Oslo",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Ireland": "Dublin",
}
CAPITAL_QUESTIONS = (
    "What is the capital of {country}?",
    "What's the capital of {country}?",
    "Name the capital of {country}.",
    "Tell me the capital of {country}.",
    "Which city is the capital of {country}?",
)
DEFINABLE = (
    "a variable",
    "a function",
    "a loop",
    "a list",
    "a string",
    "a database",
    "a computer",
    "an algorithm",
    "recursion",
    "gravity",
    "machine learning",
    "Python",
    "SQL",
    "JSON",
)
DEFINITION_QUESTIONS = (
    "What is {thing}?",
    "Explain {thing} in one sentence.",
    "Explain what {thing} is.",
    "Describe {thing} in one sentence.",
    "Tell me what {thing} is.",
)
SMALL_TALK = (
    "Hello, how are you?",
    "Hello!",
    "Hi there!",
    "Good morning!",
    "Who are you?",
    "What is your name?",
    "How are you today?",
    "Tell me about yourself.",
)

FOREIGN = (
    "你好",
    "你好，你是谁？",  # noqa: RUF001  # Chinese writes its punctuation so
    "こんにちは",
    "Привет, как дела?",
    "مرحبا",
    "¿Qué tal?",
    "Ça va bien ?",
    "안녕하세요",
    "שלום",
)
EMOJI = ("🙂", "👋", "🎉", "🚀", "🐍", "❤️", "👩‍👩‍👧")
MARKUP = (
    "<script>alert('x')</script>",
    "'; DROP TABLE users; --",
    "{{ 7 * 7 }}",
    "%s %d %n",
    "../../etc/passwd",
    "<b>bold</b> & <i>italic</i>",
    "\\n\\t\\0",
)
BLANKS = (" ", "  ", "\n", "\n\n\n", "\t", " \n ")
SENTENCES = (
    "The train left the station at noon.",
    "Seven ships lay in the harbour.",
    "My sister paints in the garden.",
    "Bread is made of flour and water.",
    "The library opens on Monday.",
    "A cold wind came from the north.",
    "Two cats slept under the table.",
    "The old bridge crosses a quiet river.",
    "He wrote a letter to his brother.",
    "Green apples taste sour.",
    "The meeting was moved to Friday.",
    "Snow covered the mountains.",
    "She plays the violin every evening.",
    "The shop sells pens and paper.",
    "Our neighbour grows tomatoes.",
    "A clock stood in the hall.",
)
"""What fills a long prompt: nothing said twice, for an answer that repeats a repeated prompt is
a language model's work, not garbage."""
LONG_QUESTIONS = (
    "What is this text about?",
    "Which day is named in this text?",
    "What is 2 + 2?",
    "Write one more sentence.",
)
