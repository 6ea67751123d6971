"""Measure a model directory by greedy generation and write the figures beside the model."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from embedded_model.card import model_card
from embedded_model.exam import Question, whole_exam
from embedded_model.sample import STOP_TOKENS

BATCH = 64
LONGEST_ANSWER = 200
FENCED = re.compile(r"```(\w[\w+]*)\n(.*?)\n```", re.DOTALL)
EXAMPLES_OF_FAILURES = 40


@dataclass(frozen=True)
class Answer:
    """What the model wrote, up to and including its stop token if there was one."""

    question: Question
    text: str

    @property
    def right(self) -> bool:
        """Tell whether the answer is the expected one to the letter, stop token included."""
        return self.text == self.question.sample.answer

    @property
    def stopped(self) -> bool:
        """Tell whether the answer ends with a stop token."""
        return self.text.endswith(STOP_TOKENS)

    @property
    def visible(self) -> str:
        """Return the answer without its stop token and outer white space."""
        text = self.text
        for token in STOP_TOKENS:
            text = text.removesuffix(token)
        return text.strip()


class Examinee:
    """A loaded model that answers questions greedily."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)

    @torch.no_grad()
    def _generate(self, prompts: list[list[int]]) -> list[str]:
        tokens = torch.tensor(prompts)
        output = self.model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=LONGEST_ANSWER
        )
        texts = self.tokenizer.batch_decode(output[:, tokens.size(1) :])
        return [_cut_after_stop(text) for text in texts]

    def answer(self, questions: list[Question]) -> list[Answer]:
        """Answer every question; prompts of equal length share a batch, so nothing is padded."""
        by_length = defaultdict(list)
        for question in questions:
            ids = self.tokenizer(question.sample.prompt, add_special_tokens=False)["input_ids"]
            length = min(len(ids), 512 - LONGEST_ANSWER)
            by_length[length].append((ids[-length:], question))
        answers = []
        for group in by_length.values():
            for start in range(0, len(group), BATCH):
                part = group[start : start + BATCH]
                texts = self._generate([ids for ids, _ in part])
                answers += [Answer(q, t) for (_, q), t in zip(part, texts, strict=True)]
        return answers


def _cut_after_stop(text: str) -> str:
    ends = [text.find(token) + len(token) for token in STOP_TOKENS if token in text]
    return text[: min(ends)] if ends else text


def _python_parses(answers: list[Answer]) -> float | None:
    sources = []
    for answer in answers:
        if not answer.question.sample.answer.lstrip().startswith("```python"):
            continue
        found = FENCED.search(answer.text)
        sources.append(found.group(2) if found else "(")
    return _share([_parses(source) for source in sources]) if sources else None


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _share(values: list[bool]) -> float:
    return round(sum(values) / len(values), 4)


def _figures(answers: list[Answer]) -> dict[str, float | int]:
    figures: dict[str, float | int] = {
        "questions": len(answers),
        "right": _share([a.right for a in answers]),
        "not empty": _share([bool(a.visible) for a in answers]),
        "stopped": _share([a.stopped for a in answers]),
    }
    for name, chat in (("right, raw", False), ("right, chat", True)):
        part = [a.right for a in answers if a.question.chat == chat]
        if part:
            figures[name] = _share(part)
    parsed = _python_parses(answers)
    if parsed is not None:
        figures["Python answers that parse"] = parsed
    return figures


def _failures(answers: list[Answer]) -> list[dict[str, str]]:
    return [
        {
            "format": "chat" if a.question.chat else "raw",
            "prompt": a.question.text,
            "expected": a.question.sample.answer,
            "answer": a.text,
        }
        for a in answers
        if not a.right
    ][:EXAMPLES_OF_FAILURES]


def evaluate(folder: Path, dtype: torch.dtype) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures of every group and examples of wrong answers."""
    examinee = Examinee(folder, dtype)
    figures: dict[str, Any] = {}
    failures: dict[str, Any] = {}
    for name, questions in whole_exam().items():
        answers = examinee.answer(questions)
        figures[name] = _figures(answers)
        failures[name] = _failures(answers)
        print(json.dumps({name: figures[name]}), flush=True)
    return figures, failures


def write_evaluation(
    folder: Path, failures_file: Path | None = None, dtype: str = "float32"
) -> None:
    """Measure the model directory; write evaluation.json and the model card into it."""
    figures, failures = evaluate(folder, getattr(torch, dtype))
    measured = {"decoding": "greedy", "computed in": dtype, "figures": figures}
    text = json.dumps(measured, indent=2) + "\n"
    (folder / "evaluation.json").write_text(text, encoding="utf-8")
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    (folder / "README.md").write_text(model_card(figures, record, dtype), encoding="utf-8")
    if failures_file:
        listing = json.dumps(failures, indent=2, ensure_ascii=False) + "\n"
        failures_file.write_text(listing, encoding="utf-8")
