"""What can go wrong in the reader."""

from __future__ import annotations

from generator.errors import GeneratorError


class ReaderError(GeneratorError):
    """Base of the reader's errors."""

    code = "reader-error"


class ReaderFolderInvalid(ReaderError):
    """A reader's folder is missing, incomplete or not a reader's."""

    code = "reader-folder-invalid"


class ReaderWeightsDamaged(ReaderError):
    """A weight file is not the one that the reader's config.json names."""

    code = "reader-weights-damaged"


class EmbeddingsMismatch(ReaderError):
    """The folder that shall lend the word embeddings does not hold those that the reader was trained with."""

    code = "embeddings-mismatch"


class EmptyQuestion(ReaderError):
    """A question without a single word."""

    code = "empty-question"
