# fmt: off
# ruff: noqa: E501 -- one case is one line.
"""Hand-labelled answers for the response oracle."""

from __future__ import annotations

from typing import Any

_SCHEMA = {"type": "object", "required": ["name", "age"], "properties": {"age": {"type": "integer"}}}
_LONG = (
    "Bananas ripen faster in a warm kitchen because the heat speeds up their ethylene production, "
    "so keep them on the counter, away from direct sunlight, until the peel turns yellow and soft."
)

# (settings, question, answer, right, why)
CASES: tuple[tuple[dict[str, Any], str, str, bool, str], ...] = (
    ({}, "What is the capital of France?", "Paris.", True, "short and to the point"),
    ({}, "What is the capital of France?", "The capital of France is Paris.", True, "a sentence"),
    ({}, "What is the capital of France?", "What is the capital of France?", False, "an echo"),
    ({}, "What is the capital of France?", "the capital of France", False, "part of the question"),
    ({}, "What is the capital of France?", "", False, "empty"),
    ({}, "What is the capital of France?", "...", False, "no words"),
    ({}, "What is the capital of France?", _LONG, False, "long and about something else"),
    ({}, "How do bananas ripen?", _LONG, True, "long and about it"),
    ({}, "How many legs does a spider have?", "A spider has eight legs.", True, "a quantity"),
    ({}, "How many legs does a spider have?", "8", True, "a quantity"),
    ({}, "How many legs does a spider have?", "A spider has legs.", False, "no quantity"),
    ({}, "When did World War II end?", "In 1945.", True, "a time"),
    ({}, "When did World War II end?", "In September.", True, "a time"),
    ({}, "When did World War II end?", "It ended with a treaty.", False, "no time"),
    ({}, "Who wrote Hamlet?", "William Shakespeare", True, "a name"),
    ({}, "Who wrote Hamlet?", "a writer of plays", False, "no name"),
    ({}, "Why is the sky blue?", "Because air scatters blue light more than red.", True, "a reason"),
    ({}, "Why is the sky blue?", "Because.", False, "no reason"),
    ({}, "Explain recursion in one sentence.", "Recursion is a function that calls itself.", True, "one"),
    ({}, "Explain recursion in one sentence.", "Recursion is when a function calls itself, e.g. for 3.5 levels.", True, "an abbreviation and a decimal"),
    ({}, "Explain recursion in one sentence.", "Recursion is a function that calls itself. It needs a base case.", False, "two"),
    ({}, "Describe recursion in two sentences.", "A function calls itself. It needs a base case.", True, "two"),
    ({}, "Describe recursion in two sentences.", "A function calls itself.", False, "one"),
    ({"sentences": 3}, "Describe recursion.", "Recursion repeats. It nests. It ends.", True, "by the settings"),
    ({"sentences": 3}, "Describe recursion.", "Recursion repeats.", False, "by the settings"),
    ({}, "List three colors.", "1. Red\n2. Green\n3. Blue", True, "numbered"),
    ({}, "List three colors.", "- Red\n- Green\n- Blue", True, "bulleted"),
    ({}, "List three colors.", "Red, green, and blue.", True, "enumerated"),
    ({}, "List three colors.", "Red\nGreen\nBlue", True, "lines"),
    ({}, "List three colors.", "Here are three colors:\nRed\nGreen\nBlue", True, "an introduction"),
    ({}, "Name 3 primary colors.", "The primary colors are red, yellow and blue.", True, "in a sentence"),
    ({}, "List three colors.", "Red, green", False, "two"),
    ({}, "List three colors.", "1. Red\n2. Green\n3. Blue\n4. Pink", False, "four"),
    ({}, "Name two animals.", "Cats and dogs.", True, "two"),
    ({}, "Name two animals.", "A cat", False, "one"),
    ({"items": 2}, "Which animals bark?", "dogs; foxes", True, "by the settings"),
    ({}, "What is the capital of Italy? Answer in one word.", "Rome", True, "one word"),
    ({}, "What is the capital of Italy? Answer in one word.", "Rome.", True, "a full stop"),
    ({}, "What is the capital of Italy? Answer in one word.", "It is Rome", False, "three words"),
    ({}, "Is water wet? Answer yes or no.", "Yes.", True, "yes"),
    ({}, "Is water wet? Answer yes or no.", "No, it makes other things wet.", True, "no"),
    ({}, "Is water wet? Answer yes or no.", "Maybe.", False, "neither"),
    ({}, "Is water wet? Answer yes or no.", "Yes and no.", False, "both"),
    ({}, "Explain gravity in at most 5 words.", "Masses attract each other.", True, "four words"),
    ({}, "Explain gravity in at most 5 words.", "Gravity is the force by which masses attract.", False, "eight"),
    ({}, "Explain gravity in under 4 words.", "Masses attract each other.", False, "four is not under four"),
    ({"max_words": 2}, "Explain gravity.", "Masses attract.", False, "an explanation has three words"),
    ({"max_words": 3}, "Explain gravity.", "Masses attract masses.", True, "by the settings"),
    ({}, "Return a JSON object with a name.", '{"name": "Ann"}', True, "JSON"),
    ({}, "Return a JSON object with a name.", 'Here:\n```json\n{"name": "Ann"}\n```', True, "fenced"),
    ({}, "Return a JSON object with a name.", "{'name': 'Ann'}", False, "Python, not JSON"),
    ({}, "Return a JSON object with a name.", '{"name": NaN}', False, "NaN is not JSON"),
    ({}, "Return a JSON object with a name.", "name: Ann", False, "YAML"),
    ({"json_schema": _SCHEMA}, "Describe Ann.", '{"name": "Ann", "age": 3}', True, "fits"),
    ({"json_schema": _SCHEMA}, "Describe Ann.", '{"name": "Ann", "age": "3"}', False, "a text for a number"),
    ({"json_schema": _SCHEMA}, "Describe Ann.", '{"name": "Ann"}', False, "a key missing"),
    ({"keywords": ["calls itself", "recursive"]}, "Explain recursion.", "A function that is calling itself.", True, "kin of a keyword"),
    ({"keywords": ["calls itself", "recursive"]}, "Explain recursion.", "A loop of some kind.", False, "no keyword"),
    ({"min_relevance": 0.5}, "How do plants make energy?", "Plants make their energy by photosynthesis.", True, "kin words"),
    ({"min_relevance": 0.5}, "How do plants make energy?", "Engines burn fuel.", False, "nothing shared"),
)

# (settings, question)
NOT_APPLICABLE: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, ""),
    ({}, "Who are you?"),
    ({}, "2+2="),
    ({"min_relevance": 0.3}, "What is it?"),
    ({"json_schema": {"type": "nonsense"}}, "Describe Ann."),
)

# Written before the second version had seen them: none of 21 was judged against its label.
BLIND_2: tuple[tuple[dict[str, Any], str, str, bool, str], ...] = (
    ({}, 'What is the largest planet?', 'Jupiter', True, 'written blind'),
    ({}, 'Explain photosynthesis.', 'Photosynthesis is how plants turn light into sugar.', True, 'written blind'),
    ({}, 'Explain photosynthesis.', 'Explain photosynthesis.', False, 'written blind'),
    ({}, 'List 3 fruits', 'apple banana cherry', False, 'written blind'),
    ({}, 'List 3 fruits', 'Apple, banana, cherry', True, 'written blind'),
    ({}, 'List 3 fruits', 'Sure! Here are 3 fruits:\n\n1. Apple\n2. Banana\n3. Cherry\n\nLet me know if you need more!', True, 'written blind'),
    ({}, 'Give me five words that rhyme with cat.', 'bat, hat, mat, rat, sat', True, 'written blind'),
    ({}, 'Name the three states of matter.', 'Solid, liquid, and gas.', True, 'written blind'),
    ({}, 'Name the three states of matter.', 'The three states of matter are solid, liquid and gas.', True, 'written blind'),
    ({}, 'What are two benefits of sleep?', 'Sleep improves memory and mood.', True, 'written blind'),
    ({}, 'Summarize the plot of Hamlet in two sentences.', 'Prince Hamlet seeks revenge on Claudius. In the end, nearly everyone dies.', True, 'written blind'),
    ({}, 'Who is the president of France?', 'Emmanuel Macron is the president.', True, 'written blind'),
    ({}, 'When was Dr. King born?', 'He was born on January 15, 1929.', True, 'written blind'),
    ({}, 'How many days are in a week?', 'There are seven.', True, 'written blind'),
    ({}, 'Answer with yes or no: is 4 even?', 'yes', True, 'written blind'),
    ({}, 'Answer with yes or no: is 4 even?', '4 is even', False, 'written blind'),
    ({}, 'Output only JSON: the name Ann', '```\n{"name": "Ann"}\n```', True, 'written blind'),
    ({}, 'What is JSON?', 'JSON is a text format for data.', True, 'written blind'),
    ({}, 'In one word, what color is the sky?', 'Blue', True, 'written blind'),
    ({}, 'In one word, what color is the sky?', 'The sky is blue', False, 'written blind'),
    ({}, 'Tell me three jokes.', '1. Knock knock.\n\n2. Why did the chicken cross?\n\n3. A bar.', True, 'written blind'),
)
