"""What text gates read of the ground truth: its files, its tokenizer as a library loads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_aprqa.formats.checkpoint import parse_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenizers import Tokenizer

    from pytest_aprqa.checks.gates.lab import ModelLab, TargetLab
    from pytest_aprqa.engines.engine import Engine
    from pytest_aprqa.formats.gguf_field import GgufField

TOKENIZER = "tokenizer.json"
SHOWN = 6
"""Token ids that are shown on either side of a difference."""


@dataclass(frozen=True, slots=True)
class SourceText:
    """The ground truth's tokenizer."""

    content: Mapping[str, Any]
    """tokenizer.json."""
    tokenizer: Tokenizer

    def ids(self, text: str, *, special: bool = False) -> tuple[int, ...]:
        """The text's ids by the tokenizers library."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=special).ids)

    @property
    def added(self) -> tuple[Mapping[str, Any], ...]:
        """The added tokens as tokenizer.json has them."""
        return tuple(self.content.get("added_tokens") or ())

    @property
    def imposes_nfc(self) -> bool:
        """Whether text is brought into normal form C before it is cut."""
        return '"NFC"' in _told(self.content.get("normalizer"))

    @property
    def blank_comes_first(self) -> bool:
        """Whether a blank is put before a text's first piece alone, as Metaspace can."""
        return '"prepend_scheme": "first"' in _told(self.content.get("pre_tokenizer"))

    @property
    def swallows(self) -> bool:
        """Whether added tokens take the blanks beside them along."""
        return any(token.get("rstrip") or token.get("lstrip") for token in self.added)


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The ground truth's files beside the weights, as they are."""

    files: Mapping[str, bytes]


def source_files(lab: ModelLab) -> SourceFiles:
    """The files that travel with the model; only those are read, no weights."""
    from pytest_aprqa.conversion.portable import TOKENIZER_FILES

    there = [name for name in TOKENIZER_FILES if (lab.directory / name).is_file()]
    return SourceFiles({name: (lab.directory / name).read_bytes() for name in there})


def source_content(lab: ModelLab) -> Mapping[str, Any] | None:
    """tokenizer.json as an object, before any library has loaded it; None when it is not there.

    Raises:
        CheckpointError: it is no JSON object.
    """
    data = lab.once(source_files).files.get(TOKENIZER)
    return None if data is None else parse_json_object(data, where=TOKENIZER)


def source_text(lab: ModelLab) -> SourceText | None:
    """The tokenizer of tokenizer.json; None when there is no such file.

    Raises:
        CheckpointError, ConversionError: it is no tokenizer.
    """
    from pytest_aprqa.conversion.tokenizers.source import loaded_tokenizer

    content = lab.once(source_content)
    return None if content is None else SourceText(content, loaded_tokenizer(content))


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """A tokenizer's keys in a target's file, and those that the ground truth's files ask for."""

    expected: Mapping[str, GgufField]
    found: Mapping[str, GgufField]

    def pair(self, key: str) -> tuple[Any, Any]:
        """What a key should hold and what it holds; None where it is not there."""
        one, two = self.expected.get(key), self.found.get(key)
        return None if one is None else one.value, None if two is None else two.value


def stored_keys(lab: TargetLab) -> StoredKeys:
    """The keys under GGUF's names, from either format.

    Raises:
        ConversionError: the ground truth's tokenizer has no such keys, or one has a wrong type.
    """
    from pytest_aprqa.conversion.tokenizers.gguf_fields import ggml_fields

    expected = ggml_fields(lab.model.config, lab.model.once(source_files).files)
    return StoredKeys(expected, file_fields(lab))


def file_fields(lab: TargetLab) -> Mapping[str, GgufField]:
    """The target file's own tokenizer keys, under GGUF's names.

    Raises:
        ConversionError: one has a wrong type.
    """
    from pytest_aprqa.conversion.tokenizers.apr_fields import as_ggml
    from pytest_aprqa.formats.gguf_file import GgufFile

    checkpoint = lab.checkpoint
    if isinstance(checkpoint, GgufFile):
        return checkpoint.fields
    return as_ggml(checkpoint.metadata)


def is_foreign(engine: Engine) -> bool:
    """Whether another library than the ground truth's cuts texts for this engine."""
    return engine.name != "transformers"


def expected_ids(lab: TargetLab, text: str, *, special: bool = False) -> tuple[int, ...]:
    """The ids that an engine of the target's library has to give.

    They are tokenizer.json's. transformers puts parts of its own in the place of that file's for
    some classes of tokenizer (LlamaTokenizer, GPT2Tokenizer): where its engine differs from the
    file, the ground truth in transformers decides.
    """
    source = lab.model.once(source_text)
    assert source is not None
    expected = source.ids(text, special=special)
    if is_foreign(lab.engine):
        return expected
    if tuple(lab.engine.tokenize(text, special=special)) == expected:
        return expected
    return tuple(lab.ground_truth().tokenize(text, special=special))


def shown(text: str) -> str:
    """A text as a finding shows it: short, its runs of blanks still to be counted."""
    return repr(text)[:80].replace("  ", "\\x20" * 2)


def around(expected: tuple[int, ...], found: tuple[int, ...]) -> str:
    """Both lists of ids around their first difference."""
    pairs = zip(expected, found, strict=False)
    place = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(found)))
    start = max(0, place - 2)
    one, two = (list(ids[start : start + SHOWN]) for ids in (expected, found))
    return f"at token {place} ids {two} of {len(found)}; expected {one} of {len(expected)}"


def _told(value: Any) -> str:
    import json

    return json.dumps(value)
