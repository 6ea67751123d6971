"""What both sides are led through: plain English of many kinds, which any tokenizer can cut."""

from __future__ import annotations

BASE = (
    "The river rises in the hills to the north, runs past three villages and reaches the sea near "
    "an old stone harbour. In spring the fields beside it are under water for some weeks, and the "
    "people who live there move their animals to higher ground.",
    "To make the soup, cut two onions and fry them in butter until they are soft. Add four cups of "
    "water, a spoon of salt and the beans, and let it all cook for an hour.",
    "def total(items):\n    result = 0\n    for item in items:\n        result += item.price * "
    "item.count\n    return result\n",
    "In 1969 two people walked on the Moon for the first time. They stayed for 21 hours, took "
    "pictures, and brought back 21.5 kilograms of rock.",
    "Question: If a train leaves at 9:15 and arrives at 11:45, how long does it travel?\n"
    "Answer: It travels for two hours and thirty minutes, which is 150 minutes.",
    '"I don\'t know," she said, and closed the book. "Ask me again tomorrow, when there is more '
    'light." He nodded, put on his coat and went out into the rain.',
    '{"name": "example", "version": "1.0.2", "files": ["main.py", "test.py"], "private": false}',
    "A cell is the smallest unit of life. Plants, animals and fungi consist of many cells; "
    "bacteria consist of one. Each cell is enclosed by a membrane that lets some matter pass.",
)
"""Eight short texts, some 300 tokens with common tokenizers."""

MORE = (
    "The committee met on Tuesday to discuss the budget for the next year. It was decided that the "
    "library should be open on Saturdays, and that the road to the station should be repaired.",
    "Dear Sir or Madam, thank you for your letter of 12 March. We regret that the article which "
    "you ordered is no longer made, and we will return the price to you within ten days.",
    "SELECT name, COUNT(*) FROM orders WHERE year = 2023 GROUP BY name ORDER BY name;",
    "Iron melts at 1538 degrees Celsius, copper at 1085 and lead at 327. Water boils at 100 "
    "degrees at sea level, but at 90 degrees in the mountains at 3000 metres.",
    "Once upon a time there was a miller who had three sons. When he died the eldest got the mill, "
    "the second got the donkey, and the youngest got nothing but the cat.",
    "The heart pumps blood through the body. It beats about seventy times a minute, more when we "
    "run and less when we sleep. The blood carries oxygen from the lungs to every organ.",
    "# Installation\n\n1. Download the archive.\n2. Unpack it into a directory of your choice.\n"
    "3. Run `make install` and follow the instructions on the screen.\n",
    "Trade between the two cities began in the twelfth century. Salt, wool and timber went south; "
    "wine, spices and silk came north. A journey took six weeks if the weather was good.",
    "If a and b are even then their sum is even, for a = 2m and b = 2n gives a + b = 2(m + n). "
    "The same is true if both are odd. If only one of them is odd, the sum is odd.",
    "The match ended in a draw. The visitors scored in the first half, the home team five minutes "
    "before the end. Both teams meet again in two weeks, and the winner goes to the final.",
    "An hour later the wind had turned to the west and the clouds broke up. We could see the "
    "lighthouse, the white line of the beach and, far behind, the mountains under snow.",
    "Memory is divided into pages of four kilobytes. When a program touches a page that is not "
    "there, the processor stops it and the operating system loads the page from the disk.",
)
"""Twelve more, for where the first leave it undecided."""

QUESTIONS = (
    "Write a Python function to reverse a string.",
    "What is 17 + 25?",
    "Write a Rust function to add two numbers.",
    "The capital of Japan is",
    "Translate to French: good morning",
    "Count from 1 to 5.",
    "Write a JavaScript function to check if a number is even.",
    "What is 9 * 8?",
    "Hello! How are you?",
    "Is 7 a prime number?",
    "Write a Python function to compute the factorial of a number.",
    "Name three colors.",
    "What is 100 - 37?",
    "What is the largest planet?",
    "Write a Python function to find the largest number in a list.",
    "The opposite of hot is",
    "Write JavaScript code to sum a list of numbers.",
    "How many days are in a week?",
    "What is 3 + 4?",
    "Write a Rust function to square a number.",
    "Who are you?",
    "Write a Python function to check if a number is prime.",
    "The capital of Italy is",
    "What is 12 divided by 4?",
    "Write a function in JavaScript to multiply two numbers.",
    "What color is the sky?",
    "Name three fruits.",
    "Write a Python function to count the vowels in a string.",
    "What is 6 times 7?",
    "List three animals.",
)
"""Thirty short questions, for models that cannot read the texts: small ones know only answers."""
MORE_QUESTIONS = (
    "Write a Python function to double a number.",
    "What is 45 + 38?",
    "Write Rust code to divide two numbers.",
    "The capital of Germany is",
    "Write a Python function to check if a number is odd.",
    "What is 81 - 29?",
    "Write JavaScript code to reverse a string.",
    "What is the capital of Spain?",
    "Write a Rust function to check if a number is even.",
    "Thank you!",
    "Write a Python function to sum a list of numbers.",
    "What is 7 + 6?",
    "Create a JavaScript function to square a number.",
    "How many months are in a year?",
    "Write a Python function to subtract two numbers.",
    "What is 11 * 11?",
    "Implement a Rust function to multiply two numbers.",
    "Name three cities.",
    "Write a JavaScript function to check if a number is positive.",
    "Count from 1 to 10.",
    "What is 5 plus 9?",
    "Write Python code to multiply two numbers.",
    "The opposite of big is",
    "Write a JavaScript function to add two numbers.",
    "How much is 20 - 4?",
    "Write a Python function to divide two numbers.",
    "What is the capital of France?",
    "Write a Rust function to compute the factorial of a number.",
    "What is 64 + 17?",
    "Write a JavaScript function to find the largest number in a list.",
)
"""Thirty more, for where the first leave it undecided."""
