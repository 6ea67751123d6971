"""Conversations that templates are tried on, and templates that are ready to render them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.gates.text.sources import source_files
from pytest_aprqa.domain.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_aprqa.checks.gates.lab import ModelLab, TargetLab
    from pytest_aprqa.engines.llamacpp_template import ChatTemplate

Turn = dict[str, str]
USER = ("What is the tallest hill?", "And the next one?", "How far apart?", "Thank you, and?")
ASSISTANT = ("The Blue Ridge.", "Green Knoll it is.", "About ten leagues.")
SYSTEM = "You answer like a surveyor of hills."
SPECIAL = "line one\nline \"two\" 'three' \\ naïve 数 🙂 <b>&amp;</b>"
JINJA = "{{ 7 * 191 }} {% if x %} {# not a comment #} {%- raw -%}"
_NAMES = ("bos", "eos", "unk", "pad")


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a template made of a conversation: its text, or why it refuses."""

    text: str | None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """A template that is ready to render."""

    source: str
    template: ChatTemplate

    def render(self, messages: Sequence[Mapping[str, str]], *, prompt: bool = True) -> Rendered:
        """The conversation's text, or the template's refusal in its words."""
        try:
            return Rendered(self.template.render(messages, prompt=prompt))
        except Exception as error:  # a template refuses in its own words or in Jinja's
            return Rendered(None, one_line(f"{type(error).__name__}: {error}"))


def turns(count: int) -> list[Turn]:
    """A conversation of `count` questions, each but the last with its answer."""
    found: list[Turn] = []
    for number in range(count):
        found.append({"role": "user", "content": USER[number]})
        if number < count - 1:
            found.append({"role": "assistant", "content": ASSISTANT[number]})
    return found


def asked(content: str) -> list[Turn]:
    """One question."""
    return [{"role": "user", "content": content}]


def with_system(content: str = SYSTEM) -> list[Turn]:
    """A question under a system text."""
    return [{"role": "system", "content": content}, *turns(1)]


def source_chat(lab: ModelLab) -> Chat | None:
    """The ground truth's default template; None where it has none.

    Raises:
        ConversionError: a file that may hold it is malformed.
        Falsified: it is no template.
    """
    from pytest_aprqa.conversion.tokenizers.source import chat_templates

    files = lab.once(source_files).files
    source = chat_templates(files).get("default")
    return None if source is None else _chat(source, source_specials(lab))


def source_specials(lab: ModelLab) -> dict[str, str]:
    """The special tokens that transformers shows to a template, by names such as `bos_token`."""
    from pytest_aprqa.conversion.tokenizers.source import json_file

    files = lab.once(source_files).files
    settings: dict[str, Any] = json_file(files, "special_tokens_map.json") | json_file(
        files, "tokenizer_config.json"
    )
    found = {}
    for name in _NAMES:
        token = settings.get(f"{name}_token")
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found[f"{name}_token"] = text
    return found


def stored_chat(lab: TargetLab) -> Chat | None:
    """The template that the target's file stores, with the special tokens that it stores.

    Raises:
        ConversionError: a key has the wrong type.
        Falsified: it is no template.
    """
    from pytest_aprqa.checks.gates.text.sources import file_fields
    from pytest_aprqa.conversion.tokenizers.gguf_fields import ID_KEYS

    fields = file_fields(lab)
    if "tokenizer.chat_template" not in fields:
        return None
    tokens = fields["tokenizer.ggml.tokens"].value if "tokenizer.ggml.tokens" in fields else ()
    specials = {}
    for name in _NAMES:
        field = fields.get(ID_KEYS[name])
        if field is not None and 0 <= field.value < len(tokens):
            specials[f"{name}_token"] = tokens[field.value]
    return _chat(fields["tokenizer.chat_template"].value, specials)


def _chat(source: str, specials: Mapping[str, str]) -> Chat:
    from jinja2 import TemplateError

    from pytest_aprqa.domain.errors import Falsified
    from pytest_aprqa.engines.llamacpp_template import ChatTemplate

    try:
        return Chat(source, ChatTemplate(source, specials))
    except TemplateError as error:
        raise Falsified(f"the chat template is no valid Jinja: {one_line(str(error))}") from error


def difference(expected: str, found: str) -> str:
    """Both texts around the first character that is not the same."""
    pairs = enumerate(zip(expected, found, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), min(len(expected), len(found)))
    start = max(0, at - 12)
    one, two = (text[start : at + 28] for text in (expected, found))
    return f"at character {at} {two!r}; expected {one!r}"
