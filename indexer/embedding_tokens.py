"""One vector a token through the library, for models that `BertEncoder` does not compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.embedding_errors import EmbeddingFailed

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer


def library_token_rows(model: SentenceTransformer, texts: list[str]) -> list[np.ndarray]:
    """(tokens, hidden size) float32 rows of each text, special tokens left out, not normalised."""
    rows = model.encode(
        texts,
        prompt="",  # the caller's texts have it already
        batch_size=len(texts),
        output_value="token_embeddings",
        convert_to_numpy=False,
        show_progress_bar=False,
    )
    tokenizer = model.tokenizer
    all_ids = tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"]
    found = []
    for ids, text_rows in zip(all_ids, rows, strict=True):
        special = tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
        if len(special) != len(text_rows):
            raise EmbeddingFailed(
                "The model's tokens and its token vectors differ in number.",
                hint="Use another embedder for late interaction, or a cross-encoder.",
            )
        kept = [position for position, is_special in enumerate(special) if not is_special]
        found.append(text_rows[kept].float().cpu().numpy())
    return found
