"""What a server's gates ask, and how long they wait."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_aprqa.domain.errors import AprqaError

FEWEST_PROMPTS = 8
"""The gate of concurrent requests asks as many at once, each with a prompt of its own."""
PROMPTS = (
    "What is 2 + 2?",
    "Write a Python function to reverse a string.",
    "What is 17 + 25?",
    "The capital of France is",
    "What is 6 * 7?",
    "Count: one, two, three, four,",
    "What is 9 - 4?",
    "Write a JavaScript function that adds two numbers.",
    "Name three colours.",
    "Once upon a time there was",
)
"""Short answers and long ones; the last have many right answers, which a seed can choose from."""


@dataclass(frozen=True, slots=True)
class ServePrompts:
    """The prompts of the gates, all different; chat puts them as the user's one message.

    Raises:
        AprqaError: fewer than FEWEST_PROMPTS, or two alike.
    """

    prompts: tuple[str, ...] = PROMPTS
    max_tokens: int = 32
    timeout_s: float = 60.0
    """Limit of one request."""
    stop_s: float = 10.0
    """What the server is given to end in after SIGTERM."""
    context_length: int | None = None
    """The model's context in tokens; None: as far as the server tells it."""

    def __post_init__(self) -> None:
        if len(set(self.prompts)) < max(FEWEST_PROMPTS, len(self.prompts)):
            raise AprqaError(
                f"the serve gates need at least {FEWEST_PROMPTS} prompts, all different; "
                f"{len(self.prompts)} given, {len(set(self.prompts))} different"
            )
