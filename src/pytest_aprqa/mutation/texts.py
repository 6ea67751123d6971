"""Operators over the tokenizer and the chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_aprqa.mutation.editing import edit_json
from pytest_aprqa.mutation.operator import (
    Damage,
    NotApplicable,
    Operator,
    Site,
    Subject,
    graded,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = (Subject.SOURCE,)
ALL = (Subject.SOURCE, Subject.GGUF, Subject.APR)
TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"


def _tokenizer(
    change: Callable[[dict[str, Any], Site], object], told: str
) -> Callable[[Site], Damage]:
    def apply(site: Site) -> Damage:
        edit_json(site.path / TOKENIZER, lambda content: change(content, site))
        return Damage(
            f"{TOKENIZER}: {told.format(site.size)}", (TOKENIZER, "tokenizer", "merge", "vocab")
        )

    return apply


def _merges(content: dict[str, Any], site: Site) -> list[Any]:
    merges = content["model"].get("merges")
    if not merges:
        raise NotApplicable("the tokenizer has no merges")
    return list(merges)


def _lose_merges(content: dict[str, Any], site: Site) -> None:
    merges = _merges(content, site)
    content["model"]["merges"] = merges[
        : max(0, len(merges) - int(site.size if site.size > 1 else len(merges) * site.size))
    ]


def _swap_merges(content: dict[str, Any], site: Site) -> None:
    merges = _merges(content, site)
    first, second = {"far": (0, len(merges) - 1), "near": (4, 40)}[site.size]
    merges[first], merges[second] = merges[second], merges[first]
    content["model"]["merges"] = merges


def _swap_tokens(content: dict[str, Any], site: Site) -> None:
    vocabulary = content["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        raise NotApplicable("the vocabulary is no mapping")
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    chosen = [
        names[int(i)] for i in site.random().choice(len(names), int(site.size), replace=False)
    ]
    ids = [vocabulary[name] for name in chosen]
    vocabulary.update(zip(chosen, [*ids[1:], ids[0]], strict=True))


def _drop_added(content: dict[str, Any], site: Site) -> None:
    if not content.get("added_tokens"):
        raise NotApplicable("the tokenizer has no added tokens")
    content["added_tokens"] = content["added_tokens"][:-1] if site.size == "last" else []


def _not_special(content: dict[str, Any], site: Site) -> None:
    if not content.get("added_tokens"):
        raise NotApplicable("the tokenizer has no added tokens")
    for token in content["added_tokens"]:
        token["special"] = False


def _rename_added(content: dict[str, Any], site: Site) -> None:
    if not content.get("added_tokens"):
        raise NotApplicable("the tokenizer has no added tokens")
    content["added_tokens"][-1]["content"] += "x"


def _lower(content: dict[str, Any], site: Site) -> None:
    content["normalizer"] = {"type": site.size}


def _no_pretokenizer(content: dict[str, Any], site: Site) -> None:
    if site.size == "whitespace":
        content["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    else:
        content["pre_tokenizer"] = {
            "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True,
        }  # fmt: skip


def _no_decoder(content: dict[str, Any], site: Site) -> None:
    content["decoder"] = None


def _set_eos(site: Site) -> Damage:
    edit_json(site.path / SETTINGS, lambda content: content.update(eos_token=site.size))
    return Damage(f"{SETTINGS}: eos_token {site.size}", (SETTINGS, "eos"))


def _template(change: Callable[[str, Site], str], told: str) -> Callable[[Site], Damage]:
    def apply(site: Site) -> Damage:
        def edit(content: dict[str, Any]) -> None:
            text = content.get("chat_template")
            if not isinstance(text, str):
                raise NotApplicable("tokenizer_config.json has no chat template")
            changed = change(text, site)
            if changed == text:
                raise NotApplicable("the chat template has nothing of the kind")
            content["chat_template"] = changed

        edit_json(site.path / SETTINGS, edit)
        return Damage(f"{SETTINGS}: {told.format(site.size)}", (SETTINGS, "template"))

    return apply


def _without_a_newline(text: str, site: Site) -> str:
    """The first line break that the template writes, as an escape or as it is."""
    found = text.replace("'\\n'", "''", 1)
    return found if found != text else text.replace("'\n'", "''", 1)


def _without_template(site: Site) -> Damage:
    edit_json(site.path / SETTINGS, lambda content: content.pop("chat_template", None))
    return Damage(f"{SETTINGS}: no chat template", (SETTINGS, "template"))


def _of(
    name: str,
    told: str,
    sizes: dict[Any, Any],
    apply: Callable[[Site], Damage],
    subjects: tuple[Subject, ...] = ALL,
    *,
    chat: bool = False,
) -> Operator:
    return Operator(name, told, subjects, sizes, apply, chat=chat)


OPERATORS = (
    _of(
        "lose-merges",
        "merges lost",
        graded(0.9, 100, 2),
        _tokenizer(_lose_merges, "{} merges lost"),
    ),
    _of(
        "swap-merges",
        "merges in another order",
        graded(moderate="far", subtle="near"),
        _tokenizer(_swap_merges, "two merges exchanged, {}"),
    ),
    _of(
        "swap-tokens",
        "ids of tokens exchanged",
        graded(300, 40, 2),
        _tokenizer(_swap_tokens, "ids of {} tokens exchanged"),
    ),
    _of(
        "drop-added",
        "added tokens lost",
        graded("all", "last"),
        _tokenizer(_drop_added, "added tokens lost: {}"),
    ),
    _of(
        "not-special",
        "special tokens that are not",
        graded(moderate=1),
        _tokenizer(_not_special, "no token is special"),
    ),
    _of(
        "rename-added",
        "an added token renamed",
        graded(moderate=1),
        _tokenizer(_rename_added, "an added token renamed"),
    ),
    _of(
        "normalizer",
        "another normalizer",
        graded("Lowercase", moderate="NFKC"),
        _tokenizer(_lower, "normalizer {}"),
    ),
    _of(
        "pre-tokenizer",
        "another pre-tokenizer",
        graded("whitespace", "prefix"),
        _tokenizer(_no_pretokenizer, "pre-tokenizer {}"),
    ),
    _of("decoder", "no decoder", graded(1), _tokenizer(_no_decoder, "no decoder"), SOURCE),
    _of(
        "settings-eos",
        "another end token in the settings",
        graded(moderate="<|endoftext|>"),
        _set_eos,
    ),
    _of("template-none", "no chat template", graded(1), _without_template, chat=True),
    _of(
        "template-role",
        "role markers without roles",
        graded(1),
        _template(
            lambda t, s: t.replace("message['role']", "'user'").replace(
                'message["role"]', "'user'"
            ),
            "every role is user",
        ),
        chat=True,
    ),
    _of(
        "template-marker",
        "markers lost",
        graded(1),
        _template(lambda t, s: t.replace("<|im_start|>", ""), "markers lost"),
        chat=True,
    ),
    _of(
        "template-prompt",
        "no generation prompt",
        graded(1),
        _template(lambda t, s: t.replace("add_generation_prompt", "false"), "no generation prompt"),
        chat=True,
    ),
    _of(
        "template-order",
        "turns in reverse order",
        graded(1),
        _template(lambda t, s: t.replace("in messages", "in messages[::-1]"), "turns reversed"),
        chat=True,
    ),
    _of(
        "template-last",
        "only the last turn",
        graded(moderate=1),
        _template(lambda t, s: t.replace("in messages", "in messages[-1:]"), "only the last turn"),
        chat=True,
    ),
    _of(
        "template-blank",
        "blanks more",
        graded(moderate="  ", subtle=" "),
        _template(
            lambda t, s: t.replace("message['content']", f"message['content'] + '{s.size}'"),
            "blanks after every text",
        ),
        chat=True,
    ),
    _of(
        "template-newline",
        "a line break lost",
        graded(moderate=1),
        _template(_without_a_newline, "a line break lost"),
        chat=True,
    ),
    _of(
        "template-trim",
        "texts trimmed",
        graded(subtle=1),
        _template(
            lambda t, s: t.replace("message['content']", "message['content'] | trim"),
            "texts trimmed",
        ),
        chat=True,
    ),
    _of(
        "template-upper",
        "texts in capitals",
        graded(1),
        _template(
            lambda t, s: t.replace("message['content']", "message['content'] | upper"),
            "texts in capitals",
        ),
        chat=True,
    ),
)
