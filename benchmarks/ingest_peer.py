"""The other side of ingest_peers.py; runs where a peer is installed, and nothing of ours is.

Each peer in the words of its own documentation, with the settings that suit the model: chunks of about 256
tokens, which is what MiniLM reads, without overlap, so that everyone embeds each word once; batches of 32.
What a file is called is kept out of the embedded text. A file that a peer fails on costs it nothing but
that file.
"""

from __future__ import annotations

import functools
import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ingest_measure import Chunked, K, Splitter, System, main

TOKENS = 256
WORDS = 180  # about as much
CHARACTERS = 1000  # as well
BATCH = 32


class Peer(System):
    """A peer that makes chunks first and stores them afterwards."""

    distribution = ""

    def __init__(self, task: Mapping[str, Any]) -> None:
        super().__init__(task)
        self.version = version(self.distribution)

    def index(self, files: Sequence[Path], folder: Path) -> Chunked:
        chunks = self.chunks(files)
        self.store(chunks, folder)
        return Chunked.of(map(self.described, chunks))

    def chunk(self, files: Sequence[Path]) -> Chunked:
        return Chunked.of(map(self.described, self.chunks(files)))

    @abstractmethod
    def chunks(self, files: Sequence[Path]) -> list[Any]:
        """The files parsed and chunked."""

    @abstractmethod
    def store(self, chunks: list[Any], folder: Path) -> None:
        """Embed the chunks, and leave an index on disk in the folder."""

    @abstractmethod
    def described(self, chunk: Any) -> tuple[str, str]:
        """The name of a chunk's file, and its text."""

    @property
    def dtype(self) -> dict[str, str]:
        """For the constructor of transformers' models; nothing is said where it is their default."""
        return {} if self.task["dtype"] == "float32" else {"torch_dtype": self.task["dtype"]}


# --- LlamaIndex


class LlamaIndex(Peer):
    """SimpleDirectoryReader, SentenceSplitter, its own vector store.

    Reading in as many processes as cores is documented as faster. It takes more memory, so both are there.
    Needs llama-index-core, llama-index-readers-file, llama-index-embeddings-huggingface, beautifulsoup4 and
    docx2txt.
    """

    distribution = "llama-index-core"

    def __init__(self, task: Mapping[str, Any], *, parallel: bool) -> None:
        super().__init__(task)
        self._num_workers = task["cores"] if parallel else None

    def load(self, *, embedding: bool) -> None:
        from llama_index.core import SimpleDirectoryReader, VectorStoreIndex
        from llama_index.core.node_parser import SentenceSplitter
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        from llama_index.readers.file import HTMLTagReader

        self._reader, self._index_class = SimpleDirectoryReader, VectorStoreIndex
        # Without this it reads HTML as plain text, tags included.
        self._extractors = {".html": HTMLTagReader(tag="body")}
        self._splitter = SentenceSplitter(chunk_size=TOKENS, chunk_overlap=0)
        if embedding:
            self._model = HuggingFaceEmbedding(
                model_name=self.task["model"],
                device="cpu",
                embed_batch_size=BATCH,
                model_kwargs=self.dtype,
            )
            self._model.get_text_embedding("warm up")

    def chunks(self, files: Sequence[Path]) -> list[Any]:
        reader = self._reader(
            input_files=files, file_extractor=self._extractors, file_metadata=_llama_index_metadata
        )
        documents = reader.load_data(num_workers=self._num_workers)
        return self._splitter.get_nodes_from_documents(documents)

    def store(self, chunks: list[Any], folder: Path) -> None:
        self._index = self._index_class(chunks, embed_model=self._model)
        self._index.storage_context.persist(str(folder))

    def described(self, chunk: Any) -> tuple[str, str]:
        return chunk.metadata["file_name"], chunk.text

    def search(self, question: str) -> list[str]:
        nodes = self._index.as_retriever(similarity_top_k=K).retrieve(question)
        return [node.metadata["file_name"] for node in nodes]


def _llama_index_metadata(path: str) -> dict[str, str]:
    """Sent to its reader processes, so it has a name."""
    return {"file_name": Path(path).name}


# --- Haystack


class Haystack(Peer):
    """MultiFileConverter, DocumentPreprocessor, and the document store in memory, saved to disk.

    Needs haystack-ai, sentence-transformers-haystack, pypdf, trafilatura, lxml_html_clean, python-docx,
    pandas, openpyxl, tabulate, python-pptx and jq.
    """

    distribution = "haystack-ai"

    def load(self, *, embedding: bool) -> None:
        from haystack import Pipeline
        from haystack.components.converters import MultiFileConverter
        from haystack.components.preprocessors import DocumentPreprocessor
        from haystack.document_stores.in_memory import InMemoryDocumentStore

        self._pipeline = Pipeline()
        self._pipeline.add_component("converter", MultiFileConverter())
        self._pipeline.add_component(
            "preprocessor", DocumentPreprocessor(split_by="word", split_length=WORDS, split_overlap=0)
        )
        self._pipeline.connect("converter", "preprocessor")
        if embedding:
            from haystack.utils import ComponentDevice
            from haystack_integrations.components.embedders.sentence_transformers import (
                SentenceTransformersDocumentEmbedder,
                SentenceTransformersTextEmbedder,
            )

            options: dict[str, Any] = {
                "model": self.task["model"],
                "device": ComponentDevice.from_str("cpu"),
                "progress_bar": False,
                "batch_size": BATCH,
                "model_kwargs": self.dtype,
            }
            self._store = InMemoryDocumentStore(embedding_similarity_function="cosine")
            self._documents = SentenceTransformersDocumentEmbedder(**options)
            self._texts = SentenceTransformersTextEmbedder(**options)
            self._documents.warm_up()
            self._texts.warm_up()
            self._texts.run(text="warm up")

    def chunks(self, files: Sequence[Path]) -> list[Any]:
        return self._pipeline.run({"converter": {"sources": list(files)}})["preprocessor"]["documents"]

    def store(self, chunks: list[Any], folder: Path) -> None:
        from haystack.document_stores.types import DuplicatePolicy

        embedded = self._documents.run(documents=chunks)["documents"]
        self._store.write_documents(embedded, policy=DuplicatePolicy.SKIP)
        folder.mkdir(exist_ok=True)
        self._store.save_to_disk(str(folder / "store.json"))

    def described(self, chunk: Any) -> tuple[str, str]:
        return Path(chunk.meta["file_path"]).name, chunk.content or ""

    def search(self, question: str) -> list[str]:
        vector = self._texts.run(text=question)["embedding"]
        return [self.described(found)[0] for found in self._store.embedding_retrieval(vector, top_k=K)]


# --- txtai


class Txtai(Peer):
    """Textractor with one of its backends for what is neither HTML nor plain text, Embeddings with content.

    By itself it takes Apache Tika if there is Java (and downloads the server), else docling (which downloads
    models for PDF), else liteparse. Each can be asked for. Needs txtai[pipeline-data] and
    sentence-transformers.
    """

    distribution = "txtai"

    def __init__(self, task: Mapping[str, Any], *, backend: str) -> None:
        super().__init__(task)
        self._backend = backend

    def load(self, *, embedding: bool) -> None:
        from txtai import Embeddings
        from txtai.pipeline import Textractor

        self._textractor = Textractor(backend=self._backend, chunker="recursive", chunk_size=CHARACTERS)
        self.version += f", {type(self._textractor.html.backend).__name__}"
        with suppress(Exception):  # starts the server that Tika runs in
            self._textractor(self.task["files"][0])
        if embedding:
            options = {"path": self.task["model"], "content": True, "gpu": False}
            if self.dtype:  # its own pooling hands vectors to NumPy, which has no bfloat16
                options |= {"method": "sentence-transformers", "vectors": {"model_kwargs": self.dtype}}
            self._embeddings = Embeddings(**options)
            self._embeddings.batchtransform(["warm up"])

    def chunks(self, files: Sequence[Path]) -> list[Any]:
        return list(self._stream(files))

    def _stream(self, files: Iterable[Path]) -> Iterator[tuple[str, str]]:
        for path in files:
            with suppress(Exception):
                for text in self._textractor(str(path)):
                    yield path.name, text

    def store(self, chunks: list[Any], folder: Path) -> None:
        self._embeddings.index(chunks)
        self._embeddings.save(str(folder))

    def described(self, chunk: Any) -> tuple[str, str]:
        return chunk

    def search(self, question: str) -> list[str]:
        return [found["id"] for found in self._embeddings.search(question, K)]


# --- LangChain


class LangChain(Peer):
    """The community's loaders by file type in threads, its recursive splitter, FAISS.

    Needs langchain-community, langchain-huggingface, langchain-text-splitters, sentence-transformers,
    faiss-cpu, pypdf, docx2txt and beautifulsoup4.
    """

    distribution = "langchain-core"

    def load(self, *, embedding: bool) -> None:
        from langchain_community.document_loaders import (
            BSHTMLLoader,
            CSVLoader,
            Docx2txtLoader,
            PyPDFLoader,
            TextLoader,
        )
        from langchain_community.vectorstores import FAISS
        from langchain_text_splitters import RecursiveCharacterTextSplitter

        self._loaders = {
            ".pdf": PyPDFLoader,
            ".docx": Docx2txtLoader,
            ".html": BSHTMLLoader,
            ".csv": CSVLoader,
            **dict.fromkeys((".txt", ".md", ".py"), TextLoader),
        }
        self._splitter = RecursiveCharacterTextSplitter(chunk_size=CHARACTERS, chunk_overlap=0)
        self._store_class = FAISS
        if embedding:
            from langchain_huggingface import HuggingFaceEmbeddings

            self._model = HuggingFaceEmbeddings(
                model_name=self.task["model"],
                model_kwargs={"device": "cpu", **({"model_kwargs": self.dtype} if self.dtype else {})},
                encode_kwargs={"batch_size": BATCH, "normalize_embeddings": True},
            )
            self._model.embed_query("warm up")

    def chunks(self, files: Sequence[Path]) -> list[Any]:
        from langchain_community.document_loaders import DirectoryLoader

        documents = []
        for suffix in {path.suffix for path in files} & self._loaders.keys():
            documents += DirectoryLoader(
                str(files[0].parent),
                glob=f"*{suffix}",
                loader_cls=self._loaders[suffix],
                silent_errors=True,
                use_multithreading=True,
                max_concurrency=self.task["cores"],
            ).load()
        return self._splitter.split_documents(documents)

    def store(self, chunks: list[Any], folder: Path) -> None:
        self._store = self._store_class.from_documents(chunks, self._model)
        self._store.save_local(str(folder))

    def described(self, chunk: Any) -> tuple[str, str]:
        return Path(chunk.metadata["source"]).name, chunk.page_content

    def search(self, question: str) -> list[str]:
        return [self.described(found)[0] for found in self._store.similarity_search(question, k=K)]


# --- chonkie


class Chonkie(Splitter):
    """RecursiveChunker, counting tokens as the model does or characters, which is its default and faster."""

    def __init__(self, task: Mapping[str, Any], *, characters: bool) -> None:
        super().__init__(task)
        self.version = version("chonkie")
        self._characters = characters

    def load(self, texts: Sequence[str]) -> None:
        from chonkie import RecursiveChunker
        from tokenizers import Tokenizer

        self._texts = list(texts)
        self._chunker_class = RecursiveChunker
        self._tokenizer = Tokenizer.from_file(str(Path(self.task["model"], "tokenizer.json")))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def prepare(self) -> None:
        if self._characters:
            self._chunker = self._chunker_class(tokenizer="character", chunk_size=CHARACTERS)
        else:
            self._chunker = self._chunker_class(tokenizer=self._tokenizer, chunk_size=TOKENS)

    def split(self) -> int:
        return sum(len(self._chunker.chunk(text)) for text in self._texts)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    main(
        {
            "llamaindex": functools.partial(LlamaIndex, parallel=False),
            "llamaindex-parallel": functools.partial(LlamaIndex, parallel=True),
            "haystack": Haystack,
            "txtai": functools.partial(Txtai, backend="available"),
            **{f"txtai-{name}": functools.partial(Txtai, backend=name) for name in ("docling", "liteparse")},
            "langchain": LangChain,
            "chonkie": functools.partial(Chonkie, characters=False),
            "chonkie-characters": functools.partial(Chonkie, characters=True),
        }
    )
