"""G0, tokenizer: special tokens agree across the files, and chat templates parse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.checks.integrity_finding import IntegrityFinding
from pytest_aprqa.domain.text import one_line
from pytest_aprqa.formats.checkpoint import CheckpointError, read_json_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_SETTINGS = "tokenizer_config.json"
_NAMED = ("eos_token", "bos_token", "pad_token", "unk_token", "cls_token", "sep_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")
# Published models disagree about padding without harm: generation of one text never pads.
_MUST_AGREE = ("eos_token", "bos_token")
_TEMPLATE_MAX_BYTES = 1_000_000


def special_findings(
    directory: Path, *, config: Mapping[str, Any], ids: Mapping[str, int], rows: int | None
) -> list[IntegrityFinding]:
    """Special tokens that the tokenizer does not know, or whose ids the files disagree about."""
    findings: list[IntegrityFinding] = []
    settings = _optional(directory / _SETTINGS, findings)
    generation = _optional(directory / "generation_config.json", findings)
    findings += _unknown_tokens(settings, ids)
    findings += _added_tokens(settings, ids)
    text_config = config.get("text_config")
    sources = {"generation_config.json": generation, "config.json": config}
    if isinstance(text_config, dict):
        sources["config.json text_config"] = text_config
    findings += _ids_in_range(sources, ids, rows)
    findings += _disagreements(settings, sources, ids)
    return findings


def template_findings(directory: Path) -> list[IntegrityFinding]:
    """Chat templates that are no valid Jinja."""
    return [
        IntegrityFinding(
            "chat-template", place, f"{place}: no valid Jinja: {trouble}; expected a template"
        )
        for place, template in _templates(directory)
        if (trouble := _jinja_trouble(template))
    ]


def _optional(path: Path, findings: list[IntegrityFinding]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return read_json_object(path)
    except CheckpointError as error:
        findings.append(IntegrityFinding("tokenizer", path.name, str(error)))
        return {}


def _text(token: Any) -> str | None:
    """A special token's text: plain, or an object with its `content`."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _unknown_tokens(
    settings: Mapping[str, Any], ids: Mapping[str, int]
) -> Iterator[IntegrityFinding]:
    named = [(key, _text(settings.get(key))) for key in _NAMED]
    for key in _LISTS:
        value = settings.get(key)
        members = list(value.values()) if isinstance(value, dict) else value
        if isinstance(members, list):
            named += [(f"{key}[{number}]", _text(token)) for number, token in enumerate(members)]
    for place, text in named:
        if text is not None and text not in ids:
            message = (
                f"{_SETTINGS}: {place} is {text!r:.60}, which is no token of tokenizer.json; "
                f"expected one, or it would get an id without trained weights"
            )
            yield IntegrityFinding("special-token", place, message)


def _added_tokens(
    settings: Mapping[str, Any], ids: Mapping[str, int]
) -> Iterator[IntegrityFinding]:
    decoder = settings.get("added_tokens_decoder")
    if not isinstance(decoder, dict):
        return
    for number, token in decoder.items():
        text = _text(token)
        known = ids.get(text) if text is not None else None
        if str(known) != number:
            there = f"has {known} there" if known is not None else "is no token there"
            message = (
                f"{_SETTINGS}: added_tokens_decoder gives {text!r:.60} the id {number:.20}, "
                f"but it {there}; expected what tokenizer.json says"
            )
            yield IntegrityFinding("special-token", number, message)


def _ids_in_range(
    sources: Mapping[str, Mapping[str, Any]], ids: Mapping[str, int], rows: int | None
) -> Iterator[IntegrityFinding]:
    """Ids that the embedding has no row for, and stop ids that no token has."""
    limit = rows if rows is not None else max(ids.values()) + 1
    tokens = set(ids.values())
    for place, source in sources.items():
        for key in ("eos_token_id", "bos_token_id", "pad_token_id"):
            for number in _id_list(source.get(key)):
                if key == "pad_token_id" and number == -1:
                    continue  # how the first Llama says that it has none
                if type(number) is not int or not 0 <= number < limit:
                    text = f"{place}: {key} {number!r:.40}; expected a token id below {limit}"
                elif key == "eos_token_id" and number not in tokens:
                    text = f"{place}: {key} {number} is no token of tokenizer.json; expected one"
                else:
                    continue
                yield IntegrityFinding("special-token", key, text)


def _id_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _disagreements(
    settings: Mapping[str, Any],
    sources: Mapping[str, Mapping[str, Any]],
    ids: Mapping[str, int],
) -> Iterator[IntegrityFinding]:
    """A token that tokenizer_config.json names, whose id none of the other files has."""
    for name in _MUST_AGREE:
        text = _text(settings.get(name))
        known = ids.get(text) if text is not None else None
        given = {place: _id_list(source.get(f"{name}_id")) for place, source in sources.items()}
        given = {place: numbers for place, numbers in given.items() if numbers}
        if known is not None and given and all(known not in n for n in given.values()):
            others = ", ".join(f"{place} says {numbers}" for place, numbers in given.items())
            message = (
                f"{_SETTINGS}: {name} is {text!r:.60} with id {known}, but {others}; "
                f"expected {known} among them"
            )
            yield IntegrityFinding("special-token", name, message)


def _templates(directory: Path) -> Iterator[tuple[str, Any]]:
    """Each chat template with the place it was found."""
    for file in (_SETTINGS, "chat_template.json"):
        value = _optional(directory / file, []).get("chat_template")
        if isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict):
                    name = str(entry.get("name"))
                    yield f"{file} chat_template {name!r:.40}", entry.get("template")
        elif value is not None:
            yield f"{file} chat_template", value
    files = [directory / "chat_template.jinja"]
    files += sorted((directory / "additional_chat_templates").glob("*.jinja"))
    for path in files:
        if path.is_file():
            with path.open("rb") as stream:
                yield path.name, stream.read(_TEMPLATE_MAX_BYTES + 1)


def _jinja_trouble(template: Any) -> str | None:
    """Why a template cannot be parsed; None if it can."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """transformers' `{% generation %}` block, which marks what the assistant wrote."""

        tags = {"generation"}  # noqa: RUF012 - jinja2 reads a plain set from the class

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    if isinstance(template, bytes):
        try:
            template = template.decode("utf-8")
        except UnicodeDecodeError as error:
            return f"not UTF-8 at byte {error.start}"
    if not isinstance(template, str):
        return f"a {type(template).__name__}, no text"
    if len(template) > _TEMPLATE_MAX_BYTES:
        return f"longer than {_TEMPLATE_MAX_BYTES} characters"
    environment = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols", Generation])
    try:
        environment.parse(template)
    except TemplateSyntaxError as error:
        return f"{one_line(error.message)} (line {error.lineno})"
    except RecursionError:
        return "nested too deeply"
    return None
