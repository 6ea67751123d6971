from __future__ import annotations

import unicodedata

from pytest_aprqa.conversion.tokenizers.adversarial import ADVERSARIAL_TEXTS


def test_there_are_over_200_texts_and_each_is_there_once() -> None:
    assert len(ADVERSARIAL_TEXTS) == len(set(ADVERSARIAL_TEXTS)) >= 200


def test_every_text_has_utf_8_bytes() -> None:
    assert all(text.encode().decode() == text for text in ADVERSARIAL_TEXTS)


def test_every_class_of_character_is_there() -> None:
    found = {unicodedata.category(character) for character in "".join(ADVERSARIAL_TEXTS)}
    assert found >= {
        *("Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No"),
        *("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So"),
        *("Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cn"),
    }
