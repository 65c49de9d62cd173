from __future__ import annotations

import pytest

from retriever.cache_guard import may_share


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("turn on dark mode", "turn off dark mode"),
        ("what happened in 2021", "what happened in 2022"),
        ("raise the limit to 10.5", "raise the limit to 105"),
        ("is it allowed", "is it not allowed"),
        ("it works with TLS", "it doesn't work with TLS"),
        ("who wrote 'Emma'", "who wrote 'Persuasion'"),
        ('find "red fox"', 'find "grey fox"'),
        ("what does get_value return", "what does set_value return"),
        ("open /etc/hosts", "open /etc/passwd"),
        ("what is HTTP", "what is FTP"),
        ("the parseBody method", "the parseHead method"),
        ("capital of France", "capital of Spain"),
        ("files before the backup", "files after the backup"),
        ("the smallest island", "the largest island"),
        ("when did it open", "where did it open"),
        ("run with --force", "run with --dry-run"),
        ("three ferries", "two ferries"),
        ("is it in utf8", "is it in utf16"),
    ],
)
def test_queries_that_turn_on_a_word_do_not_share(one, other):
    assert not may_share(one, other)
    assert not may_share(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("how do I turn on dark mode?", "turn on the dark mode, how"),
        ("What is the capital of France?", "what's the capital city of france and what is it"),
        ("ferries in 2021", "2021: ferries in that year"),
        ("why can't it be opened?", "why can not it be opened"),
        ("get_value in the settings", "the settings: get_value in short"),
        ("Ferries to the island", "the ferries to an island"),
    ],
)
def test_paraphrases_may_share(one, other):
    assert may_share(one, other)
    assert may_share(other, one)
