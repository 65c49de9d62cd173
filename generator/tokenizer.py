"""Text to tokens and back: a tokenizer.json, its chat template, and decoding one token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generator.chat import ChatTemplate, Message
from generator.errors import InvalidTokenizer
from generator.loading import read_json

if TYPE_CHECKING:
    import tokenizers

# A UTF-8 character has at most four bytes, so an unfinished one decodes to at most three replacement marks.
_REPLACEMENT = "\ufffd"
_MAX_UNFINISHED = 3
_LONGEST_WINDOW = 24  # tokens


class Tokenizer:
    """A Hugging Face fast tokenizer, without transformers."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        chat_template: ChatTemplate | None = None,
        eos_token: str | None = None,
    ) -> None:
        self.backend = backend
        self.chat_template = chat_template
        backend.no_truncation()  # a tokenizer.json may carry the settings of some training run
        backend.no_padding()
        eos = backend.token_to_id(eos_token) if eos_token else None
        self.eos_token_ids = frozenset() if eos is None else frozenset({eos})
        self.special_tokens = tuple(
            token.content for token in backend.get_added_tokens_decoder().values() if token.special
        )

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer | None:
        """The tokenizer of a model folder, None where it has none."""
        import tokenizers

        file = folder / "tokenizer.json"
        if not file.is_file():
            if (folder / "tokenizer.model").is_file():
                raise InvalidTokenizer(
                    f"The folder {folder} has only a SentencePiece tokenizer.model.",
                    hint="Convert it with transformers: AutoTokenizer.from_pretrained(folder)"
                    ".save_pretrained(folder) writes tokenizer.json.",
                )
            return None
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust side raises nothing more specific
            raise InvalidTokenizer(f"{file} cannot be read: {error}.", hint="Download it again.") from error
        settings_file = folder / "tokenizer_config.json"
        settings = read_json(settings_file) if settings_file.is_file() else {}
        return cls(
            backend,
            chat_template=ChatTemplate.from_folder(folder, settings),
            eos_token=_token_text(settings.get("eos_token")),
        )

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`, with the beginning-of-text token where the checkpoint wants one."""
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of several texts, in parallel."""
        return [encoding.ids for encoding in self.backend.encode_batch(list(texts))]

    def prefix_end(self, text: str, num_tokens: int) -> int:
        """Characters of `text` that its first `num_tokens` tokens cover."""
        offsets = self.backend.encode(text, add_special_tokens=False).offsets
        if len(offsets) <= num_tokens:
            return len(text)
        return offsets[num_tokens - 1][1] if num_tokens > 0 else 0

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens left out."""
        return self.backend.decode(list(token_ids), skip_special_tokens=True)

    def apply_chat_template(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, ready for the assistant's turn. Needs a `chat_template`."""
        if self.chat_template is None:
            raise InvalidTokenizer("The tokenizer has no chat template.")
        # The template writes the special tokens itself.
        return self.encode(self.chat_template.render(messages), add_special_tokens=False)

    def defuse(self, text: str) -> str:
        """`text` in which no special token can be spelled out, so that a passage cannot end its own turn."""
        for token in self.special_tokens:
            if token in text:
                text = text.replace(token, f"{token[:1]} {token[1:]}")
        return text


class IncrementalDecoder:
    """Turns tokens into text as they come; the pieces joined are the text of all tokens.

    Decoding everything again for each token would be quadratic, and decoding tokens one by one breaks
    characters that span tokens and the spaces that depend on a neighbour. So a short window of tokens is
    decoded at each step, and what is new in it is returned, except for a character that is not finished yet.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._shown = ""  # the part of the window's text that has been returned
        self._settled = 0  # tokens of the window whose text was complete at some earlier step

    def push(self, token_id: int) -> str:
        """The text that is certain once `token_id` has come; may be empty."""
        self._window.append(token_id)
        text = self._tokenizer.decode(self._window)
        if not text.startswith(self._shown):
            # Byte-fallback decoders spoil a whole run of byte tokens until its last character is complete.
            return self._restart() if len(self._window) > _LONGEST_WINDOW else ""
        stable = text
        for _ in range(_MAX_UNFINISHED):
            stable = stable.removesuffix(_REPLACEMENT)
        new = stable[len(self._shown) :]
        self._shown += new
        if len(stable) == len(text):
            self._slide(text, [self._window[self._settled :]])
            self._settled = len(self._window)
        elif len(self._window) > _LONGEST_WINDOW:  # a long run of broken bytes
            # One of these cuts falls between two characters, for none has more than four bytes.
            self._slide(text, [self._window[-size:] for size in range(8, 12)])
        return new

    def finish(self) -> str:
        """What was held back, an unfinished character as a replacement mark."""
        text = self._tokenizer.decode(self._window)
        if not text.startswith(self._shown):
            return self._restart()
        new = text[len(self._shown) :]
        self._shown = text
        return new

    def _slide(self, text: str, shorter_windows: list[list[int]]) -> None:
        """Go on with the first shorter window that reads like the end of `text` and holds what is pending."""
        num_pending = len(text) - len(self._shown)
        for window in shorter_windows:
            kept = self._tokenizer.decode(window)
            if window and text.endswith(kept) and len(kept) >= num_pending:
                self._window, self._shown = window, kept[: len(kept) - num_pending]
                self._settled = len(window)
                return

    def _restart(self) -> str:
        """Give up on a run of bytes that will not become text: its replacement marks."""
        rest = self._tokenizer.decode(self._window[self._settled :])
        self._window, self._shown, self._settled = [], "", 0
        return rest


def _token_text(value: Any) -> str | None:
    """A token in tokenizer_config.json is a string or an object with its content."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
