"""Proofs of the gates about the ground truth's chat template: it is changed."""

from __future__ import annotations

from functools import partial
from typing import Any

from pytest_aprqa.checks.gates.lab import Lab
from pytest_aprqa.checks.gates.proof import Proof, ProofBench, shared
from pytest_aprqa.checks.gates.text.own_tokenizer_proofs import changed_model, healthy_model

_CONTENT = "message['content']"
_SETTINGS, _END = "tokenizer_config.json", "<|endoftext|>"


def _with_bos(content: dict[str, Any], template: str) -> None:
    content["bos_token"] = _END
    content["chat_template"] = template + content["chat_template"]


def _healthy_bos(bench: ProofBench) -> Lab:
    return changed_model(bench, partial(_with_bos, template="{{ bos_token }}"), _SETTINGS)


def _edit(content: dict[str, Any], old: str, new: str) -> None:
    assert old in content["chat_template"]
    content["chat_template"] = content["chat_template"].replace(old, new)


def _other_end(bench: ProofBench) -> Lab:
    directory = bench.copy()
    bench.edit_json(directory / _SETTINGS, lambda content: content.update(eos_token=_END))
    for file in ("config.json", "generation_config.json"):
        bench.edit_json(directory / file, lambda content: content.update(eos_token_id=1021))
    return bench.model_lab(directory)


def _proof(gate: str, defect: str, old: str, new: str, also: tuple[str, ...] = ()) -> Proof:
    change = partial(_edit, old=old, new=new)
    planted = partial(changed_model, change=change, file=_SETTINGS)
    healthy = shared("text-model", healthy_model)
    return Proof(gate=gate, defect=defect, planted=planted, healthy=healthy, also=also)


PROOFS = (
    _proof(
        "F-TEMPLATE-PLAIN-001",
        "a question alone is refused, as by a template that demands an answer to train on",
        "{% for message in messages %}",
        "{% if messages|length == 1 and 'hill' in messages[0]['content'] %}"
        "{{ raise_exception('an answer is wanted') }}{% endif %}{% for message in messages %}",
    ),
    _proof(
        "F-TEMPLATE-ORDER-001",
        "only the last five messages are rendered",
        "in messages %}",
        "in messages[-5:] %}",
    ),
    _proof("F-TEMPLATE-VERBATIM-001", "texts are escaped for HTML", _CONTENT, f"{_CONTENT}|e"),
    _proof(
        "F-TEMPLATE-LITERAL-001",
        "double braces of a text are taken away",
        _CONTENT,
        f"{_CONTENT}.replace('{{' ~ '{{', '')",
    ),
    _proof(
        "F-TEMPLATE-SYSTEM-001",
        "system texts are left out",
        _CONTENT,
        f"(({_CONTENT}) if message['role'] != 'system' else '')",
    ),
    _proof(
        "F-TEMPLATE-ROLES-001",
        "each turn is the user's",
        "'<|im_start|>' + message['role']",
        "'<|im_start|>' + 'user'",
    ),
    _proof(
        "F-TEMPLATE-PROMPT-001",
        "the beginning of an answer is empty",
        "{{ '<|im_start|>assistant\n' }}",
        "{{ '' }}",
    ),
    _proof(
        "F-TEMPLATE-AGAIN-001",
        "each text has some chance in it",
        "'<|im_end|>'",
        "(range(100000)|random|string) + '<|im_end|>'",
        also=("F-TEMPLATE-PROMPT-001",),
    ),
    Proof(
        gate="F-TEMPLATE-BOS-001",
        defect="the template writes the start token twice",
        planted=partial(
            changed_model,
            change=partial(_with_bos, template="{{ bos_token }}{{ bos_token }}"),
            file=_SETTINGS,
        ),
        healthy=shared("text-bos", _healthy_bos),
    ),
    _proof(
        "F-TEMPLATE-TOKENS-001",
        "a marker is misspelt in a branch for tools",
        "{% if add_generation_prompt %}",
        "{% if tools %}{{ '<|im_strat|>tools' }}{% endif %}{% if add_generation_prompt %}",
    ),
    Proof(
        gate="F-TEMPLATE-STOP-001",
        defect="generation ends at another token than the one that closes a turn",
        planted=_other_end,
        healthy=shared("text-model", healthy_model),
    ),
)
