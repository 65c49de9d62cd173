"""The flags that commands share, each declared once. None is "not given": other sources may speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

IndexFlag = Annotated[
    Path | None,
    typer.Option(
        "--index", metavar="DIR", help="Folder of the index. [default: .ragserve, or RAGSERVE_INDEX]"
    ),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the traceback when something goes wrong.")]
EmbedderFlag = Annotated[
    str | None, typer.Option("--embedder", metavar="MODEL", help="Embedding model: a folder or a hub name.")
]
GeneratorFlag = Annotated[
    str | None,
    typer.Option(
        "--generator", metavar="MODEL", help="Answering model: a folder, a hub name, or reader (embedded)."
    ),
]
AdapterFlag = Annotated[
    str | None, typer.Option("--adapter", metavar="DIR", help="LoRA adapter to merge into that model.")
]
DeviceFlag = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or cuda:N. [default: auto]")
]
DtypeFlag = Annotated[
    str | None,
    typer.Option("--dtype", metavar="NAME", help="auto, float32, bfloat16 or float16. [default: auto]"),
]
QuantizationFlag = Annotated[
    str | None,
    typer.Option(
        "--quantization", metavar="NAME", help="Weights of the answering model: none or int8. [default: none]"
    ),
]
KFlag = Annotated[int | None, typer.Option("-k", metavar="N", help="Passages to retrieve. [default: 5]")]
PathFlag = Annotated[
    str | None,
    typer.Option("--path", metavar="PATH", help="Only files in this folder, or matching this glob."),
]
KindFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--kind", metavar="KIND", help="Only text, code, table or image chunks; repeat for several."
    ),
]
