"""Which formats are known: by extension, by first bytes, and what is known but not read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CODE_FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "python": (".py", ".pyi", ".pyw"),
        "javascript": (".js", ".mjs", ".cjs", ".jsx"),
        "typescript": (".ts", ".mts", ".cts"),
        "tsx": (".tsx",),
        "go": (".go",),
        "rust": (".rs",),
        "java": (".java",),
        "c": (".c", ".h"),
        "cpp": (".cpp", ".cc", ".cxx", ".hpp", ".hh", ".hxx", ".ipp", ".cu", ".cuh"),
        "ruby": (".rb", ".rake", ".gemspec"),
        "bash": (".sh", ".bash", ".zsh", ".ksh"),
        "sql": (".sql",),
        "css": (".css",),
    }
)
"""Languages with a grammar, and their extensions."""

_OTHER_CODE = [
    ".swift",
    ".kt",
    ".kts",
    ".scala",
    ".php",
    ".lua",
    ".pl",
    ".pm",
    ".r",
    ".jl",
    ".cs",
    ".fs",
    ".m",
    ".mm",
    ".dart",
    ".ex",
    ".exs",
    ".erl",
    ".hs",
    ".ml",
    ".clj",
    ".lisp",
    ".el",
    ".groovy",
    ".gradle",
    ".ps1",
    ".bat",
    ".cmd",
    ".vue",
    ".svelte",
    ".graphql",
    ".proto",
    ".tf",
    ".cmake",
    ".mk",
    ".nix",
    ".zig",
    ".asm",
    ".s",
    ".vb",
    ".pas",
    ".f90",
    ".d",
    ".nim",
    ".scss",
    ".less",
    ".fish",
    ".awk",
    ".sol",
    ".vim",
    ".tcl",
]

COMPRESSIONS = (".gz", ".bz2", ".xz")
"""Extensions that go with the one before: `.tar.gz`, `.csv.gz`."""

_COMPRESSION_MARKS = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"))

_MARKUP_AND_DATA: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": (
            ".txt",
            ".text",
            ".log",
            ".srt",
            ".vtt",
            ".ini",
            ".cfg",
            ".conf",
            ".properties",
            ".env",
            ".tex",
            ".diff",
            ".patch",
        ),
        "markdown": (".md", ".markdown", ".mdown", ".mkd", ".mdx", ".qmd", ".rmd"),
        "rst": (".rst", ".rest"),
        "org": (".org",),
        "asciidoc": (".adoc", ".asciidoc", ".asc"),
        "html": (".html", ".htm", ".xhtml", ".xht"),
        "xml": (".xml", ".xsl", ".xslt", ".xsd", ".rss", ".atom", ".svg", ".rdf", ".wsdl", ".dita"),
        "json": (".json", ".geojson", ".webmanifest", ".json5", ".jsonc"),
        "ndjson": (".ndjson", ".jsonl"),
        "yaml": (".yaml", ".yml"),
        "toml": (".toml",),
        "ipynb": (".ipynb",),
        "csv": (".csv",),
        "tsv": (".tsv", ".tab"),
        "eml": (".eml", ".mht", ".mhtml"),
        "mbox": (".mbox",),
        "rtf": (".rtf",),
        "xlsx": (".xlsx", ".xlsm", ".xltx", ".xltm"),
        "docx": (".docx", ".docm", ".dotx", ".dotm"),
        "pptx": (".pptx", ".pptm", ".ppsx", ".potx"),
        "odt": (".odt", ".ott"),
        "ods": (".ods", ".ots"),
        "odp": (".odp", ".otp"),
        "epub": (".epub",),
        "pdf": (".pdf",),
        "png": (".png",),
        "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
        "tiff": (".tif", ".tiff"),
        "webp": (".webp",),
        "gif": (".gif",),
        "bmp": (".bmp", ".dib"),
        "zip": (".zip",),
        "tar": (
            *(".tar", ".tgz", ".tbz", ".tbz2", ".txz"),
            *(f".tar{compression}" for compression in COMPRESSIONS),
        ),
    }
)

UNSUPPORTED: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "doc": ("Save it as .docx or PDF.", (".doc", ".dot")),
        "xls": ("Save it as .xlsx or .csv.", (".xls", ".xlt", ".xlsb")),
        "ppt": ("Save it as .pptx or PDF.", (".ppt", ".pps", ".pot")),
        "msg": ("Save it as .eml.", (".msg",)),
        "pst": ("Export it as .mbox or .eml.", (".pst", ".ost")),
        "rar": ("Unpack it, or pack it as .zip.", (".rar",)),
        "7z": ("Unpack it, or pack it as .zip.", (".7z",)),
        "heic": ("Save it as JPEG or PNG.", (".heic", ".heif", ".avif")),
        "pages": ("Export it as .docx or PDF.", (".pages",)),
        "numbers": ("Export it as .xlsx or .csv.", (".numbers",)),
        "keynote": ("Export it as .pptx or PDF.", (".key",)),
        "mobi": ("Convert it to .epub.", (".mobi", ".azw", ".azw3")),
        "djvu": ("Convert it to PDF.", (".djvu", ".djv")),
        "postscript": ("Convert it to PDF.", (".ps", ".eps")),
        "jpeg2000": ("Save it as JPEG or PNG.", (".jp2", ".jpx", ".j2k")),
        "one": ("Export it as PDF.", (".one",)),
        "wpd": ("Save it as .docx or PDF.", (".wpd", ".wps", ".hwp")),
    }
)
"""Formats that hold documents but are not read: what to do instead, and their extensions."""

IMAGE_FORMATS = frozenset({"png", "jpeg", "tiff", "webp", "gif", "bmp"})
ZIP_FORMATS = frozenset({"docx", "pptx", "xlsx", "odt", "ods", "odp", "epub", "pages", "numbers", "keynote"})
OLE_FORMATS = frozenset({"doc", "xls", "ppt", "msg"})
ARCHIVE_FORMATS = frozenset({"zip", "tar"})
BINARY_FORMATS = (
    IMAGE_FORMATS
    | ARCHIVE_FORMATS
    | ZIP_FORMATS
    | OLE_FORMATS
    | {"pdf", "heic", "mobi", "djvu", "jpeg2000", "one", "wpd", "pst", "rar", "7z"}
)
"""Formats whose files are never text: a text file with such an extension has the wrong extension."""

CODE_FILE_NAMES = frozenset(
    {
        "makefile",
        "gnumakefile",
        "dockerfile",
        "containerfile",
        "cmakelists.txt",
        "jenkinsfile",
        "rakefile",
        "gemfile",
        "vagrantfile",
    }
)
EMPTY_MARKERS = frozenset(
    {
        "__init__.py",
        "__init__.pyi",
        "py.typed",
        ".gitkeep",
        ".keep",
        ".nojekyll",
        ".nomedia",
        ".placeholder",
        "requires",
    }
)
"""Files that are empty on purpose: their presence is their content, so they are not failures."""


def extension_of(name: str) -> str:
    """The extension with its dot, in lower case; "" when there is none. `.gitignore` has none."""
    stem, dot, extension = base_name(name).lower().rpartition(".")
    if not (dot and stem):
        return ""
    if f".{extension}" in COMPRESSIONS and stem.endswith(".tar") and stem != ".tar":
        return f".tar.{extension}"
    return f".{extension}"


def base_name(name: str) -> str:
    """What follows the last slash of either kind."""
    return name.replace("\\", "/").rpartition("/")[2]


def format_by_name(name: str) -> str | None:
    """What the name alone says."""
    if base_name(name).lower() in CODE_FILE_NAMES:
        return "code"
    return _BY_EXTENSION.get(extension_of(name))


def compression_of(data: bytes) -> str | None:
    """The name of the compression that the bytes begin like."""
    return next((name for mark, name in _COMPRESSION_MARKS if data.startswith(mark)), None)


def without_compression(name: str) -> str:
    """What a compressed file is called once it is unpacked: `a.csv` of `a.csv.gz`."""
    extension = extension_of(name)
    return name[: -len(extension)] if extension in COMPRESSIONS else name


def name_in_document(name: str) -> str:
    """What of a file's name its document depends on, so that it is read again when that changes.

    Of a picture all of it, which becomes the caption; of anything else what promises a format: the extension,
    or the whole name where there is none (Makefile). A compressed file counts as what it unpacks to.
    """
    name = base_name(name)
    extension = extension_of(name)
    if extension in COMPRESSIONS:
        return name_in_document(without_compression(name)) + extension
    return name if format_by_name(name) in IMAGE_FORMATS else extension or name.lower()


def _index_extensions() -> Mapping[str, str]:
    index = dict.fromkeys(_OTHER_CODE, "code")
    for table in (CODE_FORMATS, _MARKUP_AND_DATA, {key: value[1] for key, value in UNSUPPORTED.items()}):
        index.update({extension: format for format, extensions in table.items() for extension in extensions})
    return MappingProxyType(index)


_BY_EXTENSION = _index_extensions()
