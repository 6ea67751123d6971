"""Whether a mutant is its original after all, proven on everything that the files mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_aprqa.checks.diagnosis.settings import GROUPS
from pytest_aprqa.conversion.portable import ConversionError
from pytest_aprqa.conversion.reading import read_portable
from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS
from pytest_aprqa.formats.checkpoint import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_aprqa.conversion.portable import PortableModel

_TEMPLATE_FILES = ("tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def why_equivalent(original: Path, mutant: Path) -> str | None:
    """The proof that a mutant means what its original does; None where there is none.

    Every tensor is equal value by value, every setting that changes a computation is equal, the
    tokenizer cuts every adversarial text alike and decodes alike, and the files with the template
    and the end tokens are equal.
    """
    try:
        one, two = read_portable(original), read_portable(mutant)
        if not _same_tensors(one, two):
            return None
    except (ConversionError, CheckpointError):
        return None
    keys = [key for group in GROUPS.values() for key in group]
    if any(one.config.get(key) != two.config.get(key) for key in keys):
        return None
    if any(_content(one, name) != _content(two, name) for name in _TEMPLATE_FILES):
        return None
    if not _same_tokens(one, two):
        return None
    texts = len(ADVERSARIAL_TEXTS)
    return (
        f"{len(one.tensors)} tensors and {len(keys)} settings equal, {texts} texts cut alike, "
        "template and end tokens equal"
    )


def _content(model: PortableModel, name: str) -> object:
    """What a file holds: JSON by its values, others byte for byte."""
    data = model.files.get(name)
    if data is None or not name.endswith(".json"):
        return data
    try:
        return json.loads(data)
    except ValueError:
        return data


def _same_tensors(one: PortableModel, two: PortableModel) -> bool:
    import numpy as np

    ours = {tensor.name: tensor for tensor in one.tensors}
    theirs = {tensor.name: tensor for tensor in two.tensors}
    return ours.keys() == theirs.keys() and all(
        tensor.shape == theirs[name].shape
        and bool(np.array_equal(tensor.values(), theirs[name].values()))
        for name, tensor in ours.items()
    )


def _same_tokens(one: PortableModel, two: PortableModel) -> bool:
    from tokenizers import Tokenizer

    files = [model.files.get("tokenizer.json") for model in (one, two)]
    if files[0] == files[1]:
        return True
    if None in files:
        return False
    try:
        ours, theirs = (Tokenizer.from_buffer(data) for data in files if data is not None)
    except Exception:  # the library raises a bare Exception for a file that is no tokenizer
        return False
    if ours.get_vocab() != theirs.get_vocab():
        return False
    cut = [(ours.encode(text).ids, theirs.encode(text).ids) for text in ADVERSARIAL_TEXTS]
    return all(a == b and ours.decode(a) == theirs.decode(b) for a, b in cut)
