"""Loading a model in the dtype that is fastest at no cost in ranking."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from indexer.embedding_bert import BertEncoder
from indexer.embedding_errors import EmbeddingFailed, NotAnEmbedder
from indexer.embedding_model import ModelDescription
from indexer.hardware import has_fast_bfloat16

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

DTYPES = ("auto", "float32", "bfloat16", "float16")
# Two documents may change places under bfloat16 only if their float32 scores are closer than this.
RANKING_TOLERANCE = 0.01


def load_model(description: ModelDescription, *, device: str, dtype: str) -> SentenceTransformer:
    """The model on its device, ready to run; no code of the model's own is run and no pickle is read."""
    if dtype not in DTYPES:
        raise EmbeddingFailed(f"There is no dtype {dtype!r}.", hint=f"Choose one of {', '.join(DTYPES)}.")
    if dtype != "auto":
        return _load(description, device, dtype)
    model = _load(description, device, "float32")
    if has_fast_bfloat16(device):
        import torch

        lower = copy.deepcopy(model).to(torch.bfloat16)
        if rankings_agree(_library_scores(model), _library_scores(lower)):
            return lower
    return model


def in_fastest_dtype(encoder: BertEncoder, description: ModelDescription) -> BertEncoder:
    """What embeds documents: the float32 encoder, which embeds questions, or the same in bfloat16."""
    if not has_fast_bfloat16("cpu"):
        return encoder
    lower = encoder.to("bfloat16")
    agree = rankings_agree(*(bert_scores(encoder, other, description) for other in (encoder, lower)))
    return lower if agree else encoder


def rankings_agree(exact: np.ndarray, other: np.ndarray, *, tolerance: float = RANKING_TOLERANCE) -> bool:
    """Whether two (queries, documents) score matrices order documents alike, near-ties in `exact` apart."""
    exact_gaps = exact[:, :, None] - exact[:, None, :]
    other_gaps = other[:, :, None] - other[:, None, :]
    return not bool(((exact_gaps > tolerance) & ~(other_gaps > 0)).any())


def _load(description: ModelDescription, device: str, dtype: str) -> SentenceTransformer:
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    try:
        with no_progress_bars():
            model = SentenceTransformer(
                str(description.folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True},
            )
    except (SafetensorError, OSError, LookupError, RuntimeError, ImportError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise NotAnEmbedder(
            f"The model at {description.folder} cannot be loaded: {reason}",
            hint="Its files may be incomplete, or it may need code of its own, which is not run.",
        ) from error
    model.max_seq_length = description.max_length
    return model.eval()


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Loads in silence: transformers draws bars, and whether the user sees any is not the library's
    business."""
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def bert_scores(queries: BertEncoder, documents: BertEncoder, description: ModelDescription) -> np.ndarray:
    """Cosines of the sample's queries (rows) with its documents (columns), each by its encoder."""
    return _sample_scores(
        lambda texts: queries.encode([description.query_prompt + text for text in texts]),
        lambda texts: documents.encode([description.document_prompt + text for text in texts]),
    )


def _library_scores(model: SentenceTransformer) -> np.ndarray:
    """The same by a model of the library's."""
    return _sample_scores(
        lambda texts: model.encode_query(texts, convert_to_tensor=True).float().cpu().numpy(),
        lambda texts: model.encode_document(texts, convert_to_tensor=True).float().cpu().numpy(),
    )


def _sample_scores(
    encode_queries: Callable[[list[str]], np.ndarray], encode_documents: Callable[[list[str]], np.ndarray]
) -> np.ndarray:
    import numpy as np

    queries, documents = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (encode_queries(list(_QUERIES)), encode_documents(list(_DOCUMENTS)))
    )
    return queries @ documents.T


_QUERIES = (
    "How do I reset my password?",
    "What causes the northern lights?",
    "capital of Australia",
    "python read a file line by line",
    "When is the invoice due?",
    "side effects of ibuprofen",
    "Who painted the Mona Lisa?",
    "maximum upload size",
)
_DOCUMENTS = (
    "Open Settings, choose Security and press Reset password; a link is mailed to you.",
    "Your account is locked after five wrong passwords and opens again after an hour.",
    "Auroras appear when charged particles from the sun strike gases high in the atmosphere.",
    "Solar panels turn light into electricity by the photovoltaic effect.",
    "Canberra is the capital of Australia; Sydney is its largest city.",
    "New Zealand's seat of government is Wellington.",
    "with open(path) as file:\n    for line in file:\n        print(line.rstrip())",
    "def write_lines(path, lines):\n    path.write_text('\\n'.join(lines))",
    "Payment is due within 30 days of the date of this invoice.",
    "Invoice 2041: 12 chairs at 49.00, 4 tables at 120.00, total 1,068.00.",
    "Ibuprofen may cause stomach pain, heartburn and, rarely, kidney problems.",
    "Paracetamol relieves pain and fever; do not take more than four grams a day.",
    "Leonardo da Vinci painted the Mona Lisa between 1503 and 1519.",
    "The Starry Night was painted by Vincent van Gogh in 1889.",
    "Files of up to 25 MB can be attached; larger ones are shared as links.",
    "The server refuses request bodies over the limit with status 413.",
)
