from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from indexer.parsers import ParseOptions, parse
from indexer.types import ParsedDocument

sys.path.insert(0, str(Path(__file__).parent))  # for parsing_samples

from parsing_samples import assert_promises


@pytest.fixture
def read() -> Callable[..., ParsedDocument]:
    """Parses and checks the promises."""

    def read(data: bytes | str, name: str, **options: object) -> ParsedDocument:
        raw = data.encode() if isinstance(data, str) else data
        document = parse(raw, name=name, options=ParseOptions(**options))
        assert_promises(document)
        return document

    return read
