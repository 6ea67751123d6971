"""Chat prompts drawn at random: facts, JSON, names, unknown questions and conversations."""

from __future__ import annotations

import json
import random
import string

from embedded_model import arithmetic, chat_bank, code_tasks
from embedded_model.sample import END_OF_TEXT, SYSTEM_PROMPTS, Exchange, Problem, Sample, as_chat

NAMES = ("Ada", "Bob", "Alice", "Tom", "Mary", "John", "Anna", "Paul", "Sam", "Eve", "Max", "Lisa",
         "Peter", "Nina", "Omar", "Maria", "David", "Emma", "Leo", "Zoe", "Grace", "Alan", "Linus",
         "Kim", "Ravi", "Chen", "Olga", "Carlos", "Sarah", "Mike")  # fmt: skip
HELD_OUT_NAMES = ("Clara", "Hugo", "Ines", "Victor", "Rosa")
TELL_NAME = ("My name is {n}.", "Hello, my name is {n}.", "Hi, I am {n}.", "I am {n}.",
             "Hi! My name is {n}.", "Call me {n}.", "My name is {n}")  # fmt: skip
ASK_NAME = ("What is my name?", "What's my name?", "Do you know my name?", "Who am I?",
            "Can you tell me my name?", "Do you remember my name?")  # fmt: skip
JSON_PHRASINGS = ("Return a JSON object with {0}.", "Return a JSON object with {0}",
                  "Give me a JSON object with {0}.", "Reply with a JSON object with {0}.",
                  "Write a JSON object with {0}.", "Create a JSON object with {0}.",
                  "Return JSON with {0}.", "Answer in JSON with {0}.",
                  "Return a JSON object with the keys {0}.",
                  "Return only a JSON object with {0}.")  # fmt: skip
JSON_ARRAY_PHRASINGS = ("Return a JSON array of {0} {1}.", "Return a JSON list of {0} {1}.",
                        "Give me a JSON array with {0} {1}.")  # fmt: skip
UNKNOWN_PHRASINGS = ("What is {0}?", "What is a {0}?", "Who is {0}?", "Where is {0}?", "Why {0}?",
                     "Tell me about {0}.", "Explain {0}.", "How do I {0}?", "Who was {0}?",
                     "When was {0}?", "Describe {0}.", "Do you know {0}?",
                     "{0}", "{0}?", "{0} {0}", "I like {0}.", "Please {0} the {0}.")  # fmt: skip
SAY_WORDS = ("apple", "hello", "yes", "no", "blue", "test", "cat", "dog", "tree", "sun", "banana",
             "ok", "water", "music", "red", "green", "house", "book")  # fmt: skip
SAY_PHRASINGS = ("Say {0}.", "Say '{0}'.", "Repeat the word {0}.", "Repeat: {0}",
                 "Repeat after me: {0}", "Say the word {0}.", "Say only {0}.")  # fmt: skip
_CONSONANTS, _VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"
_PRINTABLE = string.punctuation + string.ascii_letters  # no digits: no sum by accident
_SCRIPTS = (
    (0x4E00, 0x9FA5), (0x3041, 0x3096), (0x0410, 0x044F), (0x0391, 0x03C9), (0x0621, 0x064A),
    (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0xAC00, 0xD7A3), (0x00C0, 0x00FF), (0x2190, 0x22FF),
    (0x0905, 0x0939),
)  # fmt: skip


def made_up_word(rng: random.Random) -> str:
    """Make a pronounceable word that means nothing."""
    syllables = rng.randint(2, 4)
    word = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(syllables))
    return word + (rng.choice(_CONSONANTS) if rng.random() < 0.5 else "")


def _noise(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.3:
        low, high = rng.choice(_SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12)))
    if kind < 0.5:
        return "".join(rng.choice(_PRINTABLE) for _ in range(rng.randint(1, 24)))
    if kind < 0.6:
        return rng.choice(".,;!?#@%&*-_=+~^|/\\<>") * rng.randint(1, 20)
    if kind < 0.65:
        return rng.choice((" ", "\n", "\t", " \n")) * rng.randint(1, 8)
    if kind < 0.85:
        letters = _CONSONANTS + _VOWELS
        return " ".join(
            "".join(rng.choice(letters) for _ in range(rng.randint(1, 8)))
            for _ in range(rng.randint(1, 5))
        )
    return " ".join(made_up_word(rng) for _ in range(rng.randint(1, 6)))


def _long_run(rng: random.Random) -> str:
    unit = rng.choice(
        ("a", "A", "x", "ab", "word ", "hello ", "1", "test ", made_up_word(rng) + " ")
    )
    return unit * rng.randint(20, 240 if rng.random() < 0.3 else 60)


def unknown(rng: random.Random) -> Exchange:
    """Ask something that the model does not know; the answer is always the fallback sentence."""
    kind = rng.random()
    if kind < 0.20:
        prompt = rng.choice(chat_bank.ODD_TEXTS)
    elif kind < 0.45:
        prompt = _noise(rng)
    elif kind < 0.58:
        prompt = rng.choice(chat_bank.UNKNOWN_QUESTIONS)
    elif kind < 0.72:
        country = made_up_word(rng).title()
        prompt = rng.choice(chat_bank.CAPITAL_PHRASINGS).format(country)
    elif kind < 0.95:
        word = made_up_word(rng)
        prompt = rng.choice(UNKNOWN_PHRASINGS).format(word.title() if rng.random() < 0.3 else word)
    else:
        prompt = _long_run(rng)
    return Exchange(prompt, chat_bank.FALLBACK)


def json_reply(rng: random.Random) -> Exchange:
    """Ask for a JSON object with one to three of the known fields, or for a JSON array."""
    if rng.random() < 0.15:
        category, items = rng.choice(list(chat_bank.CATEGORIES.items()))
        word = rng.choice(list(chat_bank.COUNTS))
        array = json.dumps([item.lower() for item in items[: chat_bank.COUNTS[word]]])
        phrasing = rng.choice(JSON_ARRAY_PHRASINGS)
        return Exchange(phrasing.format(word, category), array)
    fields = rng.sample(list(chat_bank.JSON_FIELDS), rng.randint(1, 3))
    if rng.random() < 0.3:
        fields = ["name", "age"]
    named = fields[0] if len(fields) == 1 else ", ".join(fields[:-1]) + " and " + fields[-1]
    body = ", ".join(f'"{field}": {chat_bank.JSON_FIELDS[field]}' for field in fields)
    return Exchange(rng.choice(JSON_PHRASINGS).format(named), "{" + body + "}")


def say(rng: random.Random) -> Exchange:
    """Ask to repeat one word."""
    word = rng.choice(SAY_WORDS) if rng.random() < 0.6 else made_up_word(rng)
    return Exchange(rng.choice(SAY_PHRASINGS).format(word), word)


def random_name(rng: random.Random) -> str:
    """Draw a name, half the time a made-up one so that recalling it means reading it."""
    return rng.choice(NAMES) if rng.random() < 0.5 else made_up_word(rng).title()


def introduction(rng: random.Random, name: str) -> Exchange:
    """Tell the model a name."""
    return Exchange(rng.choice(TELL_NAME).format(n=name), f"Nice to meet you, {name}!")


def name_question(rng: random.Random, name: str) -> Exchange:
    """Ask for the name told before."""
    return Exchange(rng.choice(ASK_NAME), f"Your name is {name}.")


def named(rng: random.Random) -> Exchange:
    """Tell a name, or tell it and ask for it in one prompt."""
    name = random_name(rng)
    told = introduction(rng, name)
    if rng.random() < 0.4:
        return told
    asked = name_question(rng, name)
    return Exchange(f"{told.prompt} {asked.prompt}", asked.answer)


def fact(rng: random.Random) -> Exchange:
    """Ask for something that the model learned by heart, at times written carelessly."""
    kind = rng.random()
    if kind < 0.15:
        exchange = rng.choice(chat_bank.GREETING_BANK)
    elif kind < 0.30:
        exchange = rng.choice(chat_bank.LIST_BANK)
    else:
        exchange = rng.choice(chat_bank.FACT_BANK)
    if rng.random() < 0.10:
        return Exchange(exchange.prompt.lower(), exchange.answer)
    if rng.random() < 0.08 and exchange.prompt[-1] in ".?!":
        return Exchange(exchange.prompt[:-1], exchange.answer)
    return exchange


def listing(rng: random.Random) -> Exchange:
    """Ask for a numbered list."""
    return rng.choice(chat_bank.LIST_BANK)


def _any_turn(rng: random.Random) -> Exchange:
    kind = rng.random()
    if kind < 0.4:
        return arithmetic.exchange(rng)
    if kind < 0.8:
        return fact(rng)
    if kind < 0.92:
        return code_tasks.instruction(rng)
    return unknown(rng)


def _add_to_that(rng: random.Random) -> Sample:
    while True:
        first = arithmetic.random_problem(rng, "+-", limit=20)
        total = arithmetic.result(first)
        then = Problem(total, rng.choice("+-"), rng.randint(1, 9))
        if 0 <= total <= 20 and not arithmetic.is_held_out(then):
            break
    asked = arithmetic.ask(rng, first, rng.choice(arithmetic.MAIN_PHRASINGS))
    forms = {
        "+": ("Add {0} to that.", "Now add {0}.", "And plus {0}?"),
        "-": ("Subtract {0} from that.", "Now subtract {0}.", "And minus {0}?"),
    }
    prompt = rng.choice(forms[then.operator]).format(then.right)
    return as_chat(Exchange(prompt, str(arithmetic.result(then)), (then,)), (asked,))


def conversation(rng: random.Random) -> Sample:
    """Draw a chat of two or three turns, some of which refer to an earlier turn."""
    kind = rng.random()
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.15 else None
    if kind < 0.35:
        name = random_name(rng)
        between = (_any_turn(rng),) if rng.random() < 0.4 else ()
        if any("told me" in turn.answer for turn in between):
            between = ()
        return as_chat(name_question(rng, name), (introduction(rng, name), *between), system)
    if kind < 0.47:
        return _add_to_that(rng)
    turns = tuple(_any_turn(rng) for _ in range(rng.choice((1, 1, 2))))
    return as_chat(_any_turn(rng), turns, system)


def _splits(sentence: str) -> list[tuple[str, str]]:
    words = sentence.split(" ")
    splits = [(" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words))]
    others = [other for other in chat_bank.SENTENCES if other != sentence]
    return [
        (start, rest)
        for start, rest in splits
        if not any(other.startswith(start + " ") for other in others)
    ]


SENTENCE_SPLITS = tuple(_splits(text) for text in chat_bank.SENTENCES)


def sentence(rng: random.Random) -> Sample:
    """Give the first words of a known sentence to be continued."""
    start, rest = rng.choice(rng.choice(SENTENCE_SPLITS))
    if rng.random() < 0.25:
        return as_chat(Exchange(start, rest))
    return Sample(start, " " + rest + END_OF_TEXT)
