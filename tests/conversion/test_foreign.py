"""A GGUF or APR file that somebody else made, which carries nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pytest_aprqa.conversion.convert import convert
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.formats.gguf_field import GgufField
from pytest_aprqa.formats.gguf_file import GgufFile
from tests.conversion.files import changed_apr, changed_gguf, stored, tiny

_AUTO: Any = transformers.AutoModelForCausalLM
_TOKENIZER: Any = transformers.AutoTokenizer
TEXT = "Once upon a time there was 2 + 2 = 4, and nobody minded."


def _logits(directory: Path, ids: list[int]) -> np.ndarray[Any, Any]:
    model = _AUTO.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        found: np.ndarray[Any, Any] = model.eval()(torch.tensor([ids])).logits[0].numpy()
    return found


def _strip(fields: dict[str, GgufField], *more: str) -> None:
    for key in list(fields):
        if key.startswith("aprqa.") or key in more:
            del fields[key]


@pytest.fixture(scope="module")
def expected() -> tuple[list[int], np.ndarray[Any, Any]]:
    ids = _TOKENIZER.from_pretrained(tiny())(TEXT)["input_ids"]
    return ids, _logits(tiny(), ids)


@pytest.mark.parametrize("more", [(), ("tokenizer.huggingface.json",)])
def test_a_foreign_gguf_runs_as_the_original(
    tmp_path: Path, expected: tuple[list[int], np.ndarray[Any, Any]], more: tuple[str, ...]
) -> None:
    convert(tiny(), tmp_path / "m.gguf")
    foreign = changed_gguf(
        tmp_path / "m.gguf", tmp_path / "foreign.gguf", lambda fields: _strip(fields, *more)
    )
    keys = GgufFile.open(foreign).fields
    assert not [key for key in keys if key.startswith("aprqa")]
    assert ("tokenizer.huggingface.json" in keys) == (not more)
    convert(foreign, tmp_path / "m")
    ids, logits = expected
    np.testing.assert_array_equal(_logits(tmp_path / "m", ids), logits)
    ours, theirs = (_TOKENIZER.from_pretrained(path) for path in (tmp_path / "m", tiny()))
    for text in [TEXT, *ADVERSARIAL_TEXTS]:
        assert ours(text)["input_ids"] == theirs(text)["input_ids"], text
    talk = [{"role": "user", "content": "What is 2 + 2?"}]
    told = [
        t.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        for t in (ours, theirs)
    ]
    assert told[0] == told[1]
    assert ours.eos_token_id == theirs.eos_token_id == 1023
    assert ours.bos_token_id == 1021  # GGUF's key has what config.json says


def test_a_changed_weight_of_a_foreign_gguf_would_be_seen(
    tmp_path: Path, expected: tuple[list[int], np.ndarray[Any, Any]]
) -> None:
    """The check above is not blind: one head's base of rotation is enough."""
    convert(tiny(), tmp_path / "m.gguf")

    def plant(fields: dict[str, GgufField]) -> None:
        _strip(fields)
        key = "qwen2.rope.freq_base"
        fields[key] = GgufField(fields[key].type, 20000.0)

    foreign = changed_gguf(tmp_path / "m.gguf", tmp_path / "foreign.gguf", plant)
    convert(foreign, tmp_path / "m")
    ids, logits = expected
    assert not np.array_equal(_logits(tmp_path / "m", ids), logits)


def test_a_foreign_apr_has_the_same_tensors(tmp_path: Path) -> None:
    convert(tiny(), tmp_path / "m.apr")

    def strip(metadata: dict[str, Any]) -> None:
        del metadata["aprqa.source_dtypes"]

    foreign = changed_apr(tmp_path / "m.apr", tmp_path / "foreign.apr", strip)
    convert(foreign, tmp_path / "m")
    found, source = stored(tmp_path / "m"), stored(tiny())
    for name, (encoding, shape, data) in source.items():
        if len(shape) == 2:
            assert found[name] == (encoding, shape, data)
        else:  # nobody says that these were BF16
            halves = np.frombuffer(data, "<u2").astype("<u4") << 16
            assert found[name] == ("F32", shape, halves.astype("<u4").tobytes())
