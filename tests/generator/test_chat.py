"""Chat templates: rendered like transformers does, in a sandbox."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from generator.chat import ChatTemplate, Message
from generator.errors import ChatTemplateFailed

CONVERSATION = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="Who are you?"),
]
CHATML = """{% for message in messages %}
    {%- if not loop.first %}{{ '\n' }}{% endif %}
    {{- '<|start|>' + message.role + '\n' + message['content'] | trim + '<|end|>' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '\n<|start|>assistant\n' }}{% endif %}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}"""


def test_a_template_renders_as_in_transformers(tmp_path: Path, add_tokenizer: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    add_tokenizer(tmp_path)
    source = CHATML + (
        "{{ {'a': [1, 'é<']} | tojson }}{{ eos_token }}"
        "{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}"
    )
    reference = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|eos|>")
    expected = reference.apply_chat_template(
        CONVERSATION, chat_template=source, add_generation_prompt=True, enable_thinking=False, tokenize=False
    )
    assert ChatTemplate(source, {"eos_token": "<|eos|>"}).render(CONVERSATION) == expected


def test_the_template_file_wins_over_the_configuration(tmp_path: Path) -> None:
    settings = {"chat_template": "from the configuration"}
    assert ChatTemplate.from_folder(tmp_path, settings).render(CONVERSATION) == "from the configuration"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert ChatTemplate.from_folder(tmp_path, settings).render(CONVERSATION) == "from the file"


def test_of_several_named_templates_the_default_is_taken(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    assert ChatTemplate.from_folder(tmp_path, {"chat_template": named}).render(CONVERSATION) == "yes"
    assert ChatTemplate.from_folder(tmp_path, {"chat_template": named[:1]}) is None
    assert ChatTemplate.from_folder(tmp_path, {}) is None


def test_special_tokens_may_be_objects(tmp_path: Path) -> None:
    settings = {"chat_template": "{{ bos_token }}!", "bos_token": {"content": "<s>"}, "eos_token": None}
    assert ChatTemplate.from_folder(tmp_path, settings).render(CONVERSATION) == "<s>!"


def test_a_template_without_system_role_gets_it_in_the_first_user_turn() -> None:
    source = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
        "{{ messages[0]['content'] }}"
    )
    assert ChatTemplate(source).render(CONVERSATION) == "Be brief.\n\nWho are you?"


def test_a_template_that_refuses_everything_is_a_typed_error_with_its_reason() -> None:
    with pytest.raises(ChatTemplateFailed, match="only in tests"):
        ChatTemplate("{{ raise_exception('only in tests') }}").render(CONVERSATION)


def test_a_template_that_does_not_parse_is_a_typed_error() -> None:
    with pytest.raises(ChatTemplateFailed, match="cannot be parsed"):
        ChatTemplate("{% for %}")


@pytest.mark.parametrize(
    "attack",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(attack: str) -> None:
    with pytest.raises(ChatTemplateFailed):
        ChatTemplate(attack).render(CONVERSATION[1:])


def test_a_template_can_tell_the_date() -> None:
    assert len(ChatTemplate("{{ strftime_now('%Y-%m-%d') }}").render(CONVERSATION)) == 10


def test_json_in_templates_is_not_escaped_for_html() -> None:
    template = ChatTemplate("{{ {'a': '<é>'} | tojson }}|{{ [1] | tojson(indent=1) }}")
    assert template.render(CONVERSATION) == '{"a": "<é>"}|' + json.dumps([1], indent=1)
