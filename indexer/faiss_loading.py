"""FAISS, loaded when it is first needed."""

from __future__ import annotations

from types import ModuleType

from indexer.errors import FaissMissing


def load_faiss() -> ModuleType:
    """The faiss module, or which extra to install."""
    try:
        import faiss
    except ImportError as error:
        raise FaissMissing(
            "FAISS is not installed.",
            hint='Run `pip install "ragserve[cpu]"`, or `pip install "ragserve[gpu]"` where there is CUDA.',
        ) from error
    return faiss
