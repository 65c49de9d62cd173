"""Settings: what they are, which values they take, their defaults. `loading.py` finds the values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from ragserve.errors import InvalidSetting

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8")
RERANKERS = ("none", "late-interaction", "cross-encoder")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


class About(NamedTuple):
    """What a setting is for, and its range."""

    help: str
    minimum: float | None = None
    maximum: float | None = None


class Declared(NamedTuple):
    """A setting: the type of its values and what it is about."""

    type: Any
    about: About


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How `ragserve serve` listens and how much it takes on at once."""

    host: Annotated[str, About("Address to listen on; 0.0.0.0 is every network interface.")] = "127.0.0.1"
    port: Annotated[int, About("Port to listen on; 0 picks a free one.", 0, 65535)] = 8000
    allowed_hosts: Annotated[
        tuple[str, ...],
        About("Host names to answer for; empty: this machine's own while on loopback, else any."),
    ] = ()
    max_requests: Annotated[int, About("Requests running or waiting before others get a 503.", 1)] = 64
    generation_slots: Annotated[
        int | None,
        About("Answers generated at the same time; none: 2 by the reader, max_requests by a model.", 1),
    ] = None
    search_batch_size: Annotated[int, About("Searches made together at most.", 1)] = 32
    search_workers: Annotated[int, About("Batches of searches that are made at the same time.", 1, 64)] = 1
    search_wait_ms: Annotated[float, About("Longest that a search waits for others.", 0, 1000)] = 1.0
    max_sessions: Annotated[
        int, About("Sessions whose next searches are made ahead, each by a thread; 0: none.", 0, 10_000)
    ] = 32
    max_body_bytes: Annotated[int, About("Largest request body, in bytes.", 1024)] = 262_144
    max_k: Annotated[int, About("Most passages that one request may ask for.", 1)] = 100
    drain_seconds: Annotated[float, About("How long SIGTERM waits for requests in progress.", 0, 3600)] = 20.0
    stall_seconds: Annotated[
        float,
        About("How long a client may take nothing of a stream, or to send a request's body.", 0.1, 3600),
    ] = 30.0
    access_log: Annotated[bool, About("Write a line to stderr for every request.")] = False

    def __post_init__(self) -> None:
        _check(self, prefix="server.")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What is remembered of past searches, and how sure an answer from it has to be."""

    max_bytes: Annotated[int, About("Most memory for past searches, in bytes; 0 keeps none.", 0)] = 67_108_864
    candidates: Annotated[
        int, About("Passages that are kept of a search: memory against hits, 1 to 2 bytes each.", 1, 100_000)
    ] = 1000
    max_false_hit_rate: Annotated[
        float,
        About("Share of approximate answers that may be wrong; 0: only answers that are proven.", 0, 1),
    ] = 0.0
    similarity_threshold: Annotated[
        float, About("Least cosine of a past question that an approximate answer leans on.", -1, 1)
    ] = 0.8
    min_recall: Annotated[
        float, About("Share of the true passages below which an approximate answer is wrong.", 0.01, 1)
    ] = 0.8
    audit_share: Annotated[
        float, About("Share of approximate answers that are compared with a true search.", 0.001, 1)
    ] = 0.05
    ttl_s: Annotated[
        float | None, About("Age at which what is remembered is dropped, in seconds; none: never.", 0.001)
    ] = None
    persist: Annotated[
        bool, About("Keep past questions in a file of the index folder, and read it at the next start.")
    ] = False

    def __post_init__(self) -> None:
        _check(self, prefix="cache.")


@dataclass(frozen=True, slots=True)
class RankingSettings:
    """What becomes of the best passages before they are returned. All of it is off by default."""

    rerank: Annotated[str, About(f"What reads the best passages once more: {', '.join(RERANKERS)}.")] = "none"
    rerank_model: Annotated[str | None, About("The cross-encoder: a folder or a hub name.")] = None
    rerank_depth: Annotated[
        int, About("Best passages that are reranked, compared for copies, and chosen from by MMR.", 1, 1000)
    ] = 50
    rerank_weight: Annotated[
        float, About("What the reranker's opinion counts for; the ranking's own is the rest.", 0, 1)
    ] = 1.0
    rerank_cache_bytes: Annotated[
        int, About("Most memory for the token vectors that late interaction keeps, in bytes.", 0)
    ] = 268_435_456
    duplicate_overlap: Annotated[
        float | None,
        About("Overlap of words from which a passage is a copy of a better one; none: never.", 0.01, 1),
    ] = None
    mmr_lambda: Annotated[
        float, About("Relevance (1) against novelty (0) when passages are chosen.", 0, 1)
    ] = 1.0
    neighbours: Annotated[
        int, About("Chunks of the document that are added before and after each passage.", 0, 16)
    ] = 0
    section_min_hits: Annotated[
        int | None,
        About("Passages of one section from which the section is returned instead; none: never.", 2),
    ] = None
    section_max_chars: Annotated[int, About("Longest section that is returned so, in characters.", 1)] = 4000
    image_weight: Annotated[
        float, About("The most that a picture scores for what it shows; a passage at most 1.", 0, 1)
    ] = 0.5
    repair_disfluencies: Annotated[
        bool, About('Search for what a speaker meant: "what is no wait who founded X" asks who founded X.')
    ] = False

    def __post_init__(self) -> None:
        _check(self, prefix="ranking.")
        if self.rerank not in RERANKERS:
            raise InvalidSetting(
                f"ranking.rerank is {self.rerank!r}, which is unknown.",
                hint=f"Use {', '.join(RERANKERS[:-1])} or {RERANKERS[-1]}.",
            )
        if self.rerank == "cross-encoder" and not self.rerank_model:
            raise InvalidSetting(
                "ranking.rerank is cross-encoder, but ranking.rerank_model names none.",
                hint="Set ranking.rerank_model to a folder, or to a hub name such as ms-marco-MiniLM-L6-v2.",
            )


@dataclass(frozen=True, slots=True)
class ParsingSettings:
    """What an ingest reads of a file, and where it stops: a hostile file must not fill the memory."""

    ocr: Annotated[bool, About("Read pictures of text.")] = True
    password_file: Annotated[
        Path | None, About("File whose first line is the password of encrypted PDFs.")
    ] = None
    timeout_s: Annotated[float, About("Longest that one file is read; OCR gets more by the page.", 1)] = 120.0
    max_memory_bytes: Annotated[
        int, About("Most memory that reading one file may take, in bytes.", 268_435_456)
    ] = 2_147_483_648
    max_bytes: Annotated[int, About("Largest file, in bytes.", 1)] = 268_435_456
    max_unpacked_bytes: Annotated[int, About("Most that one office file may unpack to, in bytes.", 1)] = (
        536_870_912
    )
    max_characters: Annotated[int, About("Longest text of one document.", 1)] = 32_000_000
    max_pixels: Annotated[int, About("Largest picture, width times height.", 1, 178_000_000)] = 150_000_000
    max_pages: Annotated[int, About("Pages of a PDF that are read.", 1)] = 20_000
    max_ocr_pages: Annotated[int, About("Pages of a PDF that are read by OCR.", 0)] = 500
    max_table_rows: Annotated[int, About("Rows of a table that are read.", 1)] = 100_000

    def __post_init__(self) -> None:
        _check(self, prefix="parsing.")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. `Settings()` is the defaults; `Settings.load()` also looks around.

    Raises InvalidSetting for a value of the wrong type or out of range.
    """

    index: Annotated[Path, About("Folder that holds the index.")] = Path(".ragserve")
    embedder: Annotated[
        str | None, About("Embedding model: a folder or a hub name; none: the embedded MiniLM.")
    ] = None
    image_embedder: Annotated[
        str | None,
        About("Model that finds pictures by what they show: a folder or a hub name; none: by text."),
    ] = None
    embedding_cache: Annotated[
        Path | None, About("Folder of vectors that all indexes share; none: each keeps only its own.")
    ] = None
    embedding_cache_bytes: Annotated[
        int, About("Size of that cache, in bytes; what was not used for longest goes first.", 1_048_576)
    ] = 4_294_967_296
    exact_chunks: Annotated[
        int, About("Chunks up to which a search compares all vectors; beyond, the probably near ones.", 0)
    ] = 100_000
    recall_target: Annotated[
        float, About("Share of the 10 nearest chunks to be found where not all are compared.", 0.5, 0.999)
    ] = 0.98
    generator: Annotated[str, About("Answering model: reader (embedded), a folder or a hub name.")] = "reader"
    adapter: Annotated[
        str | None, About("LoRA adapter to merge into the answering model: a folder in PEFT form.")
    ] = None
    device: Annotated[str, About("Where models run: auto, cpu, cuda or cuda:N.")] = "auto"
    dtype: Annotated[str, About(f"Number format of the models: {', '.join(DTYPES)}.")] = "auto"
    quantization: Annotated[
        str, About(f"Weights of the answering model: {', '.join(QUANTIZATIONS)} (not for the reader).")
    ] = "none"
    k: Annotated[int, About("Passages to retrieve for a question.", 1)] = 5
    jobs: Annotated[int | None, About("Processes that parse files; none: one a core.", 1, 1024)] = None
    prune: Annotated[bool, About("Ingest also forgets files that are gone.")] = False
    max_question_chars: Annotated[int, About("Longest question, in characters.", 1)] = 10_000
    max_new_tokens: Annotated[
        int | None, About("Longest answer, in tokens; none: as long as suits the model.", 1, 1_000_000)
    ] = None
    score_band: Annotated[
        float,
        About(
            "Passages whose scores differ by at most this share of the best may change places in a model's "
            "prompt to reuse what is computed; 0: never, so that an answer does not depend on those before.",
            0,
            1,
        ),
    ] = 0.05
    cache: CacheSettings = field(default_factory=CacheSettings)
    parsing: ParsingSettings = field(default_factory=ParsingSettings)
    ranking: RankingSettings = field(default_factory=RankingSettings)
    server: ServerSettings = field(default_factory=ServerSettings)

    def __post_init__(self) -> None:
        _check(self, prefix="")
        if not _DEVICE.fullmatch(self.device):
            raise InvalidSetting(
                f"device is {self.device!r}, no device.", hint="Use auto, cpu, cuda or cuda:0."
            )
        if self.dtype not in DTYPES:
            hint = f"Use {', '.join(DTYPES[:-1])} or {DTYPES[-1]}."
            raise InvalidSetting(f"dtype is {self.dtype!r}, no number format.", hint=hint)
        if self.quantization not in QUANTIZATIONS:
            raise InvalidSetting(
                f"quantization is {self.quantization!r}, which is unknown.",
                hint=f"Use {' or '.join(QUANTIZATIONS)}.",
            )

    @classmethod
    def load(cls, **flags: Any) -> Settings:
        """Returns the settings in force here; `flags` beat RAGSERVE_*, ./ragserve.toml and defaults."""
        from ragserve.loading import load_settings

        return load_settings(flags=flags).settings


SECTIONS: Mapping[str, type] = MappingProxyType(
    {"cache": CacheSettings, "parsing": ParsingSettings, "ranking": RankingSettings, "server": ServerSettings}
)
"""Settings that are written under a heading of their own in ragserve.toml."""


@cache
def declared_settings() -> Mapping[str, Declared]:
    """Returns every setting by its dotted key ("server.port")."""
    own = _declared(Settings, "")
    for section, owner in SECTIONS.items():
        own |= _declared(owner, f"{section}.")
    return MappingProxyType(own)


def value_of(settings: Settings, key: str) -> Any:
    """Returns the value at a dotted key."""
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def words_for(kind: Any) -> str:
    """Returns what values of a type are called when speaking to a user."""
    return _KINDS[kind][1]


_KINDS: Mapping[Any, tuple[tuple[type, ...], str]] = MappingProxyType(
    {
        str: ((str,), "a text"),
        str | None: ((str, type(None)), "a text"),
        int: ((int,), "a whole number"),
        int | None: ((int, type(None)), "a whole number"),
        float: ((int, float), "a number"),
        float | None: ((int, float, type(None)), "a number"),
        bool: ((bool,), "true or false"),
        Path: ((Path,), "a path"),
        Path | None: ((Path, type(None)), "a path"),
        tuple[str, ...]: ((tuple,), "a list of texts"),
    }
)


def _declared(owner: type, prefix: str) -> dict[str, Declared]:
    hints = get_type_hints(owner, include_extras=True)
    with_about = {name: get_args(hint) for name, hint in hints.items() if hasattr(hint, "__metadata__")}
    return {f"{prefix}{name}": Declared(kind, about) for name, (kind, about) in with_about.items()}


def _check(
    settings: Settings | CacheSettings | ParsingSettings | RankingSettings | ServerSettings, *, prefix: str
) -> None:
    for key, (kind, about) in declared_settings().items():
        section, _, name = key.rpartition(".")
        if section != prefix.rstrip("."):
            continue
        value = getattr(settings, name)
        allowed, words = _KINDS[kind]
        wrong_bool = isinstance(value, bool) and kind is not bool  # True is an int to Python, not to a user
        if not isinstance(value, allowed) or wrong_bool:
            raise InvalidSetting(f"{key} must be {words}, not {value!r}.", hint=about.help)
        if value is None:
            continue
        if about.minimum is not None and not value >= about.minimum:  # `not` so that NaN is out of range
            raise InvalidSetting(f"{key} must be at least {about.minimum}, not {value}.", hint=about.help)
        if about.maximum is not None and not value <= about.maximum:
            raise InvalidSetting(f"{key} must be at most {about.maximum}, not {value}.", hint=about.help)
