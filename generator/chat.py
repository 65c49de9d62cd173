"""Chat templates: the Jinja text with which a checkpoint was taught to read a conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from generator.errors import ChatTemplateFailed

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class Message(TypedDict):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatTemplate:
    """A compiled template. Templates come with checkpoints, so they run in Jinja's immutable sandbox."""

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        import jinja2

        self._special_tokens = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ChatTemplateFailed(
                f"The chat template cannot be parsed: {error}.", hint="Download the model folder again."
            ) from error

    @classmethod
    def from_folder(cls, folder: Path, settings: Mapping[str, Any]) -> ChatTemplate | None:
        """The template of chat_template.jinja or tokenizer_config.json, None where there is none."""
        file = folder / "chat_template.jinja"
        try:
            source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
        except (OSError, UnicodeDecodeError) as error:
            raise ChatTemplateFailed(f"{file} cannot be read: {error}.") from error
        if isinstance(source, list):  # several named ones; "default" is the plain conversation
            named = {item.get("name"): item.get("template") for item in source if isinstance(item, dict)}
            source = named.get("default")
        if not isinstance(source, str):
            return None
        return cls(source, _special_token_texts(settings))

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation as text that ends where the assistant's turn begins.

        Many templates know no system role; its text then opens the first user turn instead.
        """
        try:
            return self._render(messages)
        except ChatTemplateFailed:
            if len(messages) < 2 or messages[0]["role"] != "system":
                raise
            system, first, *rest = messages
            merged = Message(role=first["role"], content=f"{system['content']}\n\n{first['content']}")
            return self._render([merged, *rest])

    def _render(self, messages: Sequence[Message]) -> str:
        import jinja2

        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                enable_thinking=False,  # Qwen3, SmolLM3: answer without a monologue first
                **self._special_tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise ChatTemplateFailed(
                f"The model's chat template refuses the conversation: {error}."
            ) from error


def _environment() -> Any:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def strftime_now(pattern: str) -> str:
        from datetime import datetime

        return datetime.now().astimezone().strftime(pattern)

    def tojson(value: Any, *, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)  # Jinja's own escapes for HTML

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = tojson
    return environment


def _special_token_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for name in _SPECIAL_TOKENS:
        value = settings.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            texts[name] = value
    return texts
