"""The tables of the catalog, as the list of steps that lead from an empty file to the present version."""

from __future__ import annotations

from collections.abc import Iterator
from sqlite3 import complete_statement

APPLICATION_ID = 0x52414753  # "RAGS": marks the SQLite file as one of ours
PAGE_BYTES = 8192  # five MiniLM vectors to a page; with SQLite's 4096 only two would fit

_VERSION_1 = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The states that searches saw, as far back as removed_chunks goes: one more with every commit that changes
-- what a search returns. The token tells a state from the one with the same number in another catalog, or in
-- a copy of this one that went its own way.
CREATE TABLE commits (
    generation INTEGER PRIMARY KEY,
    token TEXT NOT NULL,
    committed_at REAL NOT NULL          -- Unix seconds
) STRICT;
INSERT INTO commits VALUES (0, lower(hex(randomblob(16))), CAST(strftime('%s', 'now') AS REAL));

-- A document is a content. Files that hold the same content share it; a file that changes keeps it.
CREATE TABLE documents (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,            -- opaque, stays when the content changes
    content_key BLOB NOT NULL UNIQUE,   -- digest of the bytes and of what the name says about their format
    conversion TEXT NOT NULL,           -- fingerprint of the parsers, options and chunker
    size INTEGER NOT NULL,              -- bytes of the file
    title TEXT NOT NULL,
    format TEXT NOT NULL,
    parser TEXT NOT NULL,
    metadata TEXT NOT NULL,             -- JSON object of strings
    warnings TEXT NOT NULL,             -- JSON array of sentences
    text BLOB NOT NULL,                 -- zlib of the normalised text in UTF-8
    text_characters INTEGER NOT NULL,
    indexed_at REAL NOT NULL            -- Unix seconds
) STRICT;

CREATE TABLE files (
    uri TEXT PRIMARY KEY,
    path BLOB NOT NULL,                 -- the file system's name for it, byte for byte
    document INTEGER REFERENCES documents (rowid),  -- a failed file may keep its last good version
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    content_key BLOB,                   -- of the bytes that were last read; null if none were
    conversion TEXT NOT NULL,           -- what they were last read with
    status TEXT NOT NULL CHECK (status IN ('indexed', 'failed', 'skipped')),
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    hint TEXT NOT NULL,
    checked_ns INTEGER NOT NULL         -- when size and mtime_ns were read, Unix nanoseconds
) STRICT;
CREATE INDEX files_by_document ON files (document);
CREATE INDEX files_not_indexed ON files (content_key) WHERE status <> 'indexed';

-- One vector a distinct embedded text, whichever chunks it came from.
CREATE TABLE embeddings (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,           -- sha256 of the embedder's fingerprint and the text
    vector BLOB NOT NULL                -- float32, little endian
) STRICT;

-- The rowid is the chunk's number in the vector index and in the lexical index. It is never used again, and
-- its text and vector never change: a chunk whose vector changes gets a new number.
CREATE TABLE chunks (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    document INTEGER NOT NULL REFERENCES documents (rowid),
    ordinal INTEGER NOT NULL,           -- position within the document, from 0
    start INTEGER NOT NULL,             -- character offsets into the document's text
    "end" INTEGER NOT NULL,
    page INTEGER,
    boxes TEXT NOT NULL,                -- JSON array of [page, x0, y0, x1, y1]
    heading_path TEXT NOT NULL,         -- JSON array of strings
    kind TEXT NOT NULL,
    context TEXT NOT NULL,              -- what was embedded in front of the text
    text TEXT NOT NULL,
    embedding INTEGER NOT NULL REFERENCES embeddings (rowid),
    added_generation INTEGER NOT NULL   -- when it was added, or when the paths it is found under last changed
) STRICT;
CREATE INDEX chunks_by_document ON chunks (document, ordinal);
CREATE INDEX chunks_by_embedding ON chunks (embedding);
CREATE INDEX chunks_by_generation ON chunks (added_generation);

-- What went, so that a reader or a checkpoint that is behind can follow.
CREATE TABLE removed_chunks (
    generation INTEGER NOT NULL,
    chunk INTEGER NOT NULL,             -- rowid it had
    id TEXT NOT NULL,
    PRIMARY KEY (generation, chunk)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at REAL NOT NULL,
    finished_at REAL,
    pid INTEGER NOT NULL,
    roots TEXT NOT NULL,                -- JSON array of paths
    outcome TEXT NOT NULL CHECK (outcome IN ('running', 'finished', 'interrupted', 'failed')),
    report TEXT NOT NULL                -- JSON object: the command, its settings, counts and seconds
) STRICT;
"""

MIGRATIONS = (_VERSION_1,)
SCHEMA_VERSION = len(MIGRATIONS)


def statements(script: str) -> Iterator[str]:
    """The statements of a script, each of which ends at the end of a line."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if complete_statement(statement):
            yield statement
            statement = ""
