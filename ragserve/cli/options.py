"""The flags that commands share, each declared once. None is "not given": other sources may speak."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

Chosen = Mapping[str, Any]
"""What was given for settings, by their dotted keys."""

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
ImageEmbedderFlag = Annotated[
    str | None,
    typer.Option(
        "--image-embedder",
        metavar="MODEL",
        help="CLIP model that finds pictures by what they show: a folder or a hub name. [default: none]",
    ),
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
HostFlag = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="Address to listen on. [default: 127.0.0.1]")
]
PortFlag = Annotated[
    int | None,
    typer.Option("--port", metavar="PORT", help="Port to listen on; 0 picks a free one. [default: 8000]"),
]
AccessLogFlag = Annotated[
    bool | None,
    typer.Option("--access-log/--no-access-log", help="Write a line for every request. [default: no]"),
]
KFlag = Annotated[int | None, typer.Option("-k", metavar="N", help="Passages to retrieve. [default: 5]")]
RerankFlag = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="NAME",
        help="Read the best passages once more: late-interaction, cross-encoder or none. [default: none]",
    ),
]
RerankModelFlag = Annotated[
    str | None,
    typer.Option("--rerank-model", metavar="MODEL", help="The cross-encoder: a folder or a hub name."),
]
DuplicateOverlapFlag = Annotated[
    float | None,
    typer.Option(
        "--duplicate-overlap",
        metavar="SHARE",
        help="Drop passages that share so much with a better one, such as 0.8. [default: none]",
    ),
]
MmrLambdaFlag = Annotated[
    float | None,
    typer.Option(
        "--mmr-lambda",
        metavar="SHARE",
        help="Choose for novelty too; 1 is relevance alone, 0.9 a little novelty. [default: 1]",
    ),
]
NeighboursFlag = Annotated[
    int | None,
    typer.Option(
        "--neighbours", metavar="N", help="Add so many chunks before and after each passage. [default: 0]"
    ),
]
SectionMinHitsFlag = Annotated[
    int | None,
    typer.Option(
        "--section-min-hits",
        metavar="N",
        help="Return a section whole once it holds so many passages. [default: never]",
    ),
]
RoundsFlag = Annotated[
    int,
    typer.Option(
        "--rounds",
        metavar="N",
        help="Times to retrieve, each with what was answered before; 1 to 4. [default: 1]",
        show_default=False,
    ),
]
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
ExplainFlag = Annotated[
    bool, typer.Option("--explain", help="Also say how the passages were found and what took how long.")
]

SETTING_FLAGS: Mapping[str, Any] = MappingProxyType(
    {
        "index": IndexFlag,
        "k": KFlag,
        "generator": GeneratorFlag,
        "adapter": AdapterFlag,
        "embedder": EmbedderFlag,
        "image_embedder": ImageEmbedderFlag,
        "device": DeviceFlag,
        "dtype": DtypeFlag,
        "quantization": QuantizationFlag,
        "ranking.rerank": RerankFlag,
        "ranking.rerank_model": RerankModelFlag,
        "ranking.duplicate_overlap": DuplicateOverlapFlag,
        "ranking.mmr_lambda": MmrLambdaFlag,
        "ranking.neighbours": NeighboursFlag,
        "ranking.section_min_hits": SectionMinHitsFlag,
        "server.host": HostFlag,
        "server.port": PortFlag,
        "server.access_log": AccessLogFlag,
    }
)
"""The settings that have a flag."""

RANKING = (
    "ranking.rerank",
    "ranking.rerank_model",
    "ranking.duplicate_overlap",
    "ranking.mmr_lambda",
    "ranking.neighbours",
    "ranking.section_min_hits",
)
SEARCHING = ("index", "k", "embedder", "image_embedder", "device", "dtype", *RANKING)
ANSWERING = (
    "index",
    "k",
    "generator",
    "adapter",
    "embedder",
    "image_embedder",
    "device",
    "dtype",
    "quantization",
    *RANKING,
)


def choosing(*keys: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the flags of these settings; what they say is its argument `chosen`."""
    names = {key.rpartition(".")[2]: key for key in keys}
    flags = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=SETTING_FLAGS[key])
        for name, key in names.items()
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[Parameter] = []
        for parameter in signature.parameters.values():
            own = parameter.replace(kind=Parameter.KEYWORD_ONLY)
            parameters += flags if parameter.name == "chosen" else [own]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            chosen = {key: given.pop(name) for name, key in names.items()}
            command(chosen=chosen, **given)

        # What typer reads: the flags as if the command had declared each of them itself.
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
        return run

    return decorate
