from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.lexical_terms import MAX_TERM_CHARS, query_terms, term_counts
from indexer.stemming import stem

# Pairs from Porter's paper, step by step.
PORTER_EXAMPLES = """
caresses=caress ponies=poni ties=ti cats=cat feed=feed agreed=agre plastered=plaster bled=bled
motoring=motor sing=sing conflated=conflat troubled=troubl sized=size hopping=hop tanned=tan
falling=fall hissing=hiss fizzed=fizz failing=fail filing=file happy=happi sky=sky relational=relat
conditional=condit rational=ration valenci=valenc hesitanci=hesit digitizer=digit
conformabli=conform radicalli=radic differentli=differ vileli=vile analogousli=analog
vietnamization=vietnam predication=predic operator=oper feudalism=feudal decisiveness=decis
hopefulness=hope callousness=callous formaliti=formal sensitiviti=sensit sensibiliti=sensibl
triplicate=triplic formative=form formalize=formal electriciti=electr electrical=electr hopeful=hope
goodness=good revival=reviv allowance=allow inference=infer airliner=airlin gyroscopic=gyroscop
adjustable=adjust defensible=defens irritant=irrit replacement=replac adjustment=adjust
dependent=depend adoption=adopt communism=commun activate=activ angulariti=angular effective=effect
bowdlerize=bowdler probate=probat rate=rate cease=ceas controll=control roll=roll is=is
"""


@pytest.mark.parametrize("pair", PORTER_EXAMPLES.split())
def test_words_are_stemmed_as_in_porters_paper(pair):
    word, expected = pair.split("=")
    assert stem(word) == expected


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("get_values", ["get", "valu", "get_values"]),
        ("parseHTTPBody", ["pars", "http", "bodi", "parsehttpbodi"]),
        ("__init__", ["init", "__init__"]),
        ("MAX_QUERY_2", ["max", "queri", "2", "max_query_2"]),
        ("utf8 NASA Word", ["utf8", "nasa", "word"]),
        ("os.path.join(a_b)", ["os", "path", "join", "a", "b", "a_b"]),
    ],
)
def test_an_identifier_is_found_by_its_parts_and_as_a_whole(text, terms):
    assert list(term_counts(text)) == terms


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("company's", "company"),
        ("don’t", "dont"),
        ("naïve Élan", "naive elan"),
        ("ﬁne ｗｉｄｅ", "fine wide"),
        ("STRASSE", "straße"),
        ("Ёлка", "елка"),
    ],
)
def test_spellings_of_one_word_meet(written, typed):
    assert term_counts(written) == term_counts(typed)


def test_unspaced_scripts_are_indexed_as_pairs_of_characters():
    assert list(term_counts("東京都に行くGPUで")) == ["東京", "京都", "都に", "に行", "行く", "gpu", "で"]
    assert set(query_terms("京都")) <= set(term_counts("東京都"))
    assert set(term_counts("한국어")) <= set(term_counts("한국어를"))


def test_vowel_signs_stay_with_their_letters():
    assert list(term_counts("हिन्दी भाषा")) == ["हिन्दी", "भाषा"]


def test_stop_words_leave_a_query_unless_it_has_nothing_else():
    assert set(query_terms("what is the capital of France")) == {"capit", "franc"}
    assert set(query_terms("who are you")) == {"who", "ar", "you"}
    assert set(term_counts("the capital")) == {"the", "capit"}


def test_data_in_the_guise_of_a_word_is_left_out():
    assert term_counts("a" * (MAX_TERM_CHARS + 1)) == {}
    assert term_counts("f" * MAX_TERM_CHARS).total() == 1
    assert term_counts("___ !?\n\x00 '") == {}


@given(st.text())
def test_any_text_gives_terms_that_sqlite_can_store(text):
    for term in term_counts(text):
        assert 0 < len(term) <= 4 * MAX_TERM_CHARS
        assert term.encode("utf-8").decode() == term
