"""Bytes to documents: `parse(data, name=...)` gives text, structure and where it came from, or a typed error.

Nothing here opens a path, reaches the network or runs what a document contains. There is one file a format
family; `detect_format` chooses by content first and by name second.
"""

from indexer.parsers.detect import detect_format
from indexer.parsers.errors import ParseError
from indexer.parsers.options import ParseOptions
from indexer.parsers.registry import PARSER_VERSION, parse, supported_formats

__all__ = ["PARSER_VERSION", "ParseError", "ParseOptions", "detect_format", "parse", "supported_formats"]
