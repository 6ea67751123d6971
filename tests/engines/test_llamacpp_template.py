"""Chat templates of GGUF files render as transformers renders them."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2.exceptions import SecurityError, TemplateError

from pytest_aprqa.engines.llamacpp_template import ChatTemplate

CHAT = (
    {"role": "system", "content": "Be <brief> & kind."},
    {"role": "user", "content": "Was heißt 你好?"},
    {"role": "assistant", "content": " Hello\n"},
    {"role": "user", "content": ""},
)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TEMPLATES = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m.content | trim }}"
    "{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
    # Blocks on lines of their own leave no trace: trim_blocks, lstrip_blocks.
    "{% for m in messages %}\n    {% if m.role == 'user' %}\n<{{ m.content }}>\n    {% endif %}\n"
    "{% endfor %}\nend",
    "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }} {{ '<&>' | tojson }}",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}"
    "{% if loop.index == 3 %}{% break %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}{{ unk_token }}{% if tools %}tools{% endif %}{% if documents is none %}-{% endif %}",
    "{{ messages[1:][0].content.split(' ')[0].upper() }} {{ strftime_now('%Y') }} {{ dict(a=1) }}",
    "{% macro say(m) %}{{ m.role }}:{{ m.content }};{% endmacro %}"
    "{% generation %}{{ say(messages[0]) }}{% endgeneration %}",
)


def _by_transformers(template: str) -> str:
    from transformers.utils import chat_template_utils

    messages = [dict(message) for message in CHAT]
    render: Any = chat_template_utils.render_jinja_template
    rendered = render(
        conversations=[messages], chat_template=template, add_generation_prompt=True, **SPECIAL
    )
    return str(rendered[0][0])


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_render_as_transformers_renders_them(template: str) -> None:
    found = ChatTemplate(template, SPECIAL).render(CHAT)
    assert found == _by_transformers(template)
    assert found


def test_a_template_that_refuses() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(TemplateError, match=r"^roles must alternate$"):
        template.render(CHAT)


def test_a_template_that_is_none() -> None:
    with pytest.raises(TemplateError, match=r"Unexpected end of template"):
        ChatTemplate("{% for m in messages %}", {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages[0].update(role='x') }}",
        "{{ raise_exception.__globals__['os'] }}",
        "{{ strftime_now.__globals__['json'] }}",
    ],
)
def test_a_template_reaches_nothing_and_changes_nothing(template: str) -> None:
    with pytest.raises(SecurityError, match=r"unsafe|not safely"):
        ChatTemplate(template, {}).render(CHAT)
