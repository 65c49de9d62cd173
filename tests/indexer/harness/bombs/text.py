"""Markup, data, prose, code and e-mail: deep, wide, long, or all of it at once."""

from __future__ import annotations

from harness.bombs.sizes import MIB


def deep_xml() -> bytes:
    """A million elements, each in the one before."""
    return b"<a>" * 1_000_000 + b"text" + b"</a>" * 1_000_000


def billion_laughs() -> bytes:
    """Ten entities, each ten times the one before."""
    entities = ['<!ENTITY l0 "laugh">']
    entities += [f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10)]
    return f"<?xml version='1.0'?><!DOCTYPE a [{''.join(entities)}]><a>&l9;</a>".encode()


def quadratic_entities() -> bytes:
    """One entity of 100,000 characters, used 30,000 times."""
    return b"<!DOCTYPE a [<!ENTITY e '" + b"x" * 100_000 + b"'>]><a>" + b"&e;" * 30_000 + b"</a>"


def foreign_entity() -> bytes:
    """An entity that would show another file."""
    return b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><a>text &e;</a>"


def deep_html() -> bytes:
    """400,000 divisions, none of them closed."""
    return b"<html><body>" + b"<div>" * 400_000 + b"text"


def many_attributes() -> bytes:
    """An element with 300,000 attributes."""
    return b"<html><body " + b"".join(b'a%d="1" ' % number for number in range(300_000)) + b">text"


def deep_json() -> bytes:
    """Two million lists in each other."""
    return b"[" * 2_000_000 + b"]" * 2_000_000


def long_number() -> bytes:
    """A number of ten million digits."""
    return b'{"number": ' + b"7" * 10_000_000 + b"}"


def yaml_aliases() -> bytes:
    """Nine lists, each of nine times the one before."""
    lines = ["a0: &a0 [word, word, word]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


def wide_table() -> bytes:
    """Three rows of two million cells."""
    return (b"1," * 2_000_000 + b"\n") * 3


def open_quote() -> bytes:
    """Quotation marks that are opened and not closed, in a table of four million."""
    return b'"a,"b\n' * 4_000_000


def one_word() -> bytes:
    """A word of thirty million letters."""
    return b"a" * 30_000_000


def marks_upon_marks() -> bytes:
    """A letter with five million accents."""
    return b"e" + "\u0301".encode() * 5_000_000


def brackets_in_markdown() -> bytes:
    """A million links that begin and do not end, and as much emphasis."""
    return b"[" * 1_000_000 + b"\n\n" + b"*a _b " * 300_000 + b"\n\n" + b"`" * 500_000 + b"> " * 200_000


def parentheses_in_code() -> bytes:
    """Python with two hundred thousand open parentheses, blocks and strings."""
    return b"x = " + b"(" * 200_000 + b"\n" + b"if a:\n" * 50_000 + b'f"{' * 50_000


def deep_notebook() -> bytes:
    """A notebook whose outputs are lists in lists."""
    return (
        b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": '
        + b"[" * 200_000
        + b"]" * 200_000
        + b"}]}"
    )


# --- e-mail


def nested_email() -> bytes:
    """3,000 messages, each attached to the one before."""
    return b"Content-Type: message/rfc822\n\n" * 3_000 + b"Subject: a\n\ntext"


def nested_multipart() -> bytes:
    """2,000 parts in parts."""
    return (
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number)
            for number in range(2_000)
        )
        + b"\ntext"
    )


def many_parts() -> bytes:
    """100,000 empty parts, and a header of five million letters."""
    head = b"Subject: " + b"=?utf-8?q?a?= " * 400_000 + b"\nContent-Type: multipart/mixed; boundary=b\n\n"
    return head + b"--b\n\n\n" * 100_000 + b"--b--\n"


def sparse_text() -> bytes:
    """60 MiB of zeros with a text's name."""
    return bytes(60 * MIB)
