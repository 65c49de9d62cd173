"""What an ingest is asked to do, and the running account of what it did."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from indexer.catalog_reader import kept_note
from indexer.chunking import CHUNKER_VERSION
from indexer.identity import fingerprint
from indexer.parsers import PARSER_VERSION, ParseOptions
from indexer.planning import Failed
from indexer.types import FileFailure, IngestProgress, IngestReport, IngestStage
from indexer.worker_values import ParseLimits

if TYPE_CHECKING:
    from indexer.embedding import Embedder

# These do not change what a file became that was read: a password lets more files be read, and the time that
# a slow file gets says nothing about the others. Which pictures have no vector yet is looked up.
_NOT_IN_FINGERPRINT = frozenset({"password", "soft_seconds", "thumbnails"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestSettings:
    """How to ingest."""

    prune: bool = False  # take out files that are gone
    jobs: int | None = None  # parsing processes; None: one a core
    retry_failed: bool = False
    options: ParseOptions = field(default_factory=ParseOptions)
    limits: ParseLimits = field(default_factory=ParseLimits)

    def conversion(self, embedder: Embedder) -> str:
        """Fingerprint of all that decides how bytes become chunks."""
        choices = {
            name: value for name, value in asdict(self.options).items() if name not in _NOT_IN_FINGERPRINT
        }
        return fingerprint(
            [PARSER_VERSION, CHUNKER_VERSION, json.dumps(choices, sort_keys=True), str(embedder.max_tokens)]
        )

    def summary(self) -> dict[str, Any]:
        """The settings for the journal; of a password only whether there was one."""
        values = asdict(self)
        options = values["options"]
        options["password"] = options["password"] is not None
        return values


@dataclass(slots=True)
class Tally:
    """Counts that grow while an ingest runs."""

    started: float = field(default_factory=time.perf_counter)
    found: int = 0
    all_found: bool = False
    indexed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: int = 0
    missing: int = 0
    failed: list[FileFailure] = field(default_factory=list)
    chunks: int = 0
    embedded: int = 0
    bytes: int = 0
    parse_seconds: float = 0.0
    embed_seconds: float = 0.0
    commit_seconds: float = 0.0
    wait_seconds: float = 0.0
    partial: int = 0

    def fail(self, failure: Failed, kept_since: float | None) -> None:
        """List a file that failed, and say so if its last good version stays searchable."""
        reason = failure.reason + (kept_note(kept_since) if kept_since is not None else "")
        self.failed.append(FileFailure(failure.file.uri, reason, failure.hint, failure.code))

    def progress(self, stage: IngestStage) -> IngestProgress:
        """How far it is."""
        return IngestProgress(
            stage=stage,
            files_found=self.found,
            files_done=self.indexed + self.unchanged + self.skipped + len(self.failed),
            all_found=self.all_found,
            chunks=max(self.chunks, self.embedded),
            bytes=self.bytes,
            seconds=time.perf_counter() - self.started,
        )

    def report(self) -> IngestReport:
        """The account so far, in order of name."""
        return IngestReport(
            indexed=self.indexed,
            unchanged=self.unchanged,
            removed=self.removed,
            skipped=self.skipped,
            failed=tuple(sorted(self.failed, key=lambda failure: failure.uri)),
            chunks=self.chunks,
            seconds=time.perf_counter() - self.started,
            missing=self.missing,
            embedded=self.embedded,
            bytes=self.bytes,
            parse_seconds=self.parse_seconds,
            embed_seconds=self.embed_seconds,
            commit_seconds=self.commit_seconds,
            wait_seconds=self.wait_seconds,
            partial=self.partial,
        )

    def summary(self) -> dict[str, Any]:
        """The account so far for the journal, with the number of failures in place of their list."""
        return {**asdict(self.report()), "failed": len(self.failed)}
