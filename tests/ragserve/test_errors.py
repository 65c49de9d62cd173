"""Codes are an interface: what refers to one refers to one that exists."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import get_args

import generator
import indexer
import ragserve
import retriever
from ragserve.cli.run import WORK_FAILED
from ragserve.errors import TypedError
from ragserve.server.errors import STATUS


def all_codes() -> list[str]:
    """Of every error that is defined in a module of ours that says `Error` or `errors` in its source."""
    for package in (ragserve, indexer, retriever, generator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            source = module.module_finder.find_spec(module.name, None).loader.get_source(module.name)
            if re.search(r"^    code = ", source, re.MULTILINE):
                importlib.import_module(module.name)
    found, todo = [], list(get_args(TypedError))
    while todo:
        error = todo.pop()
        found.append(error.code)
        todo += error.__subclasses__()
    return found


def test_every_code_that_the_face_treats_specially_is_a_code_of_some_error():
    assert set(all_codes()) >= {*STATUS, *WORK_FAILED} - {"operating-system", "bug"}


def test_codes_are_kebab_case():
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", code) for code in all_codes())
