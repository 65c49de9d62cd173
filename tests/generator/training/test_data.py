from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.reader.start import start_reader, starting_config
from generator.reader.tokens import ReaderTokenizer, Tokens
from generator.reader.weights import default_embeddings_folder
from generator.training.errors import InvalidTrainingData
from generator.training.examples import Example, collate, cut_window, find_answers, likeliest_occurrence
from generator.training.grounded_config import GroundedQAConfig, Stage, UnanswerableConfig
from generator.training.grounded_qa import GroundedQATask
from generator.training.lexical import Bm25
from generator.training.plan import mixture, token_budget_batches
from generator.training.records import GroundedQuestion, QuestionSet, held_out, read_hard_negatives
from generator.training.scoring import exact_match, normalise_answer, word_f1
from generator.training.substitutes import Substitutes
from generator.training.unanswerable import Change, UnanswerableMaker

from .conftest import THINGS, facts

GOOD = {"question": "Where?", "answers": ["Rome"], "passage": "It is in Rome.", "title": "t", "source": "s"}


def pieces(count: int) -> Tokens:
    return Tokens(
        "x" * count, list(range(100, 100 + count)), [(i, i + 1) for i in range(count)], [False] * count
    )


# Batches


@given(
    lengths=st.lists(st.integers(1, 50), max_size=60),
    budget=st.integers(1, 200),
    pool=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_batches_hold_every_item_once_within_the_budget(
    lengths: list[int], budget: int, pool: int, seed: int
) -> None:
    batches = token_budget_batches(
        range(len(lengths)), lengths.__getitem__, budget=budget, rng=random.Random(seed), pool=pool
    )
    assert sorted(item for batch in batches for item in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget


def test_items_of_a_batch_are_about_equally_long() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(10, 200) for _ in range(2000)]
    batches = token_budget_batches(range(2000), lengths.__getitem__, budget=2000, rng=rng)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert sum(lengths) / padded > 0.85


def test_draws_follow_the_weights_and_repeat_only_when_a_group_is_used_up() -> None:
    drawn = mixture([5, 5000], [0.2, 0.8], count=2000, rng=random.Random(1))
    small = [index for group, index in drawn if group == 0]
    large = [index for group, index in drawn if group == 1]
    assert 300 < len(small) < 500
    assert len(set(large)) == len(large)
    assert max(small.count(i) for i in range(5)) - min(small.count(i) for i in range(5)) <= 1


# Records


def write_lines(path: Path, *records: Any) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n")
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is no JSON object"),
        ("", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        (json.dumps(GOOD | {"question": 3}), "line 2: the field 'question' is no text"),
        (json.dumps(GOOD | {"passage": "  "}), "line 2: the field 'passage' is no text"),
        (json.dumps(GOOD | {"answers": "Rome"}), "line 2: the field 'answers' is no list of texts"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_lines(tmp_path / "data.jsonl", GOOD, line)
    with pytest.raises(InvalidTrainingData) as caught:
        QuestionSet().read_questions(path)
    assert message in str(caught.value)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "data.jsonl", GOOD)
    path.write_bytes(path.read_bytes() + b'{"question": "\xff"}\n')
    with pytest.raises(InvalidTrainingData, match="line 2 is not JSON"):
        QuestionSet().read_questions(path)


def test_missing_and_useless_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrainingData, match="cannot be read"):
        QuestionSet().read_questions(tmp_path / "nowhere.jsonl")
    path = write_lines(tmp_path / "data.jsonl", GOOD | {"answers": ["Paris"]})
    with pytest.raises(InvalidTrainingData, match="holds no question"):
        QuestionSet().read_questions(path)


def test_hard_negatives_are_matched_by_question_and_passages_kept_once(tmp_path: Path) -> None:
    passages = write_lines(
        tmp_path / "p.jsonl",
        {"pid": 4, "title": "o", "text": "Athens."},
        {"pid": 5, "title": "o", "text": "Oslo."},
    )
    references = write_lines(tmp_path / "r.jsonl", {"id": "q1", "gold": 1, "hard_neg": [5, 4]})
    questions = QuestionSet()
    path = write_lines(tmp_path / "q.jsonl", GOOD | {"id": "q1"}, GOOD | {"id": "q2"})
    questions.read_questions(path, read_hard_negatives(references, passages))
    first, second = questions.questions
    assert [questions.passages[i] for i in first.hard_negatives] == ["Oslo.", "Athens."]
    assert second.hard_negatives == ()
    assert first.passage == second.passage
    with pytest.raises(InvalidTrainingData, match="do not exist"):
        read_hard_negatives(write_lines(tmp_path / "bad.jsonl", {"id": "q", "hard_neg": [9]}), passages)


def test_titles_are_held_out_by_their_hash() -> None:
    titles = [f"title {i}" for i in range(4000)]
    share = sum(held_out(title, 0.05) for title in titles) / len(titles)
    assert 0.035 < share < 0.065
    assert all(held_out(title, 0.2) for title in titles if held_out(title, 0.05))


# Examples


def test_answers_are_found_as_whole_words_first() -> None:
    text = "Romeo went to Rome, then from Rome on."
    assert [text[s:e] for s, e in find_answers(text, ["Rome"])] == ["Rome", "Rome"]
    assert find_answers(text, ["ome"])  # only inside of words
    assert find_answers(text, ["Paris", "then"]) == [(text.index("then"), text.index("then") + 4)]


def test_batches_come_in_few_shapes(start_folder: Path) -> None:
    tokenizer = ReaderTokenizer(start_folder / "tokenizer.json")
    config = starting_config(start_folder)
    asked = tokenizer.encode("where ?").ids
    shapes = set()
    for length in range(1, 60):
        ids = (tokenizer.encode("the boat").ids * length)[:length]
        batch = collate([Example(asked, ids, [], [])], tokenizer, config)
        shapes.add((batch.token_ids.shape, batch.copyable.shape, batch.targets.shape))
    assert len(shapes) <= 4


@given(
    total=st.integers(1, 80),
    window=st.integers(1, 90),
    data=st.data(),
)
def test_a_window_always_holds_its_answer(total: int, window: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, total - 1))
    last = data.draw(st.integers(first, min(total - 1, first + 9)))
    other = data.draw(st.integers(0, total - 1))
    passage, spans = pieces(total), [(other, other), (first, last)]
    rng = random.Random(data.draw(st.integers(0, 99)))
    ids, inside, centre = cut_window(passage, spans, centre=1, window=window, rng=rng)
    assert len(ids) <= window
    begin, end = inside[centre]
    assert ids[begin : end + 1] == passage.ids[first : min(last, first + window - 1) + 1]
    assert ids == passage.ids[ids[0] - 100 : ids[0] - 100 + len(ids)]
    assert all(0 <= s <= e < len(ids) for s, e in inside)


def test_the_occurrence_beside_the_questions_words_is_chosen() -> None:
    passage = Tokens("", [7, 1, *[0] * 40, 2, 3, 7], [(0, 0)] * 45, [False] * 45)
    assert likeliest_occurrence(passage, [2, 3], [(0, 0), (44, 44)]) == 1


def test_a_batch_says_where_answers_stand_and_what_may_be_copied(start_folder: Path) -> None:
    tokenizer = ReaderTokenizer(start_folder / "tokenizer.json")
    config = starting_config(start_folder)
    passage = tokenizer.encode("the boat is in the harbour . the map is in the harbour .").ids
    place = passage[5]
    spans = [(5, 5), (12, 12)]
    pair = Example(tokenizer.encode("where ?").ids, passage, [(4, 5)], passage[4:6])
    alone = collate([pair], tokenizer, config)
    assert [row.nonzero().flatten().tolist() for row in alone.pointer_targets[0][:3]] == [[8], [9], []]
    assert not alone.target_mask[0, 3:].any()
    rows = [
        Example(tokenizer.encode("where is the boat ?").ids, passage, spans, [place]),
        Example(tokenizer.encode("where ?").ids, passage[:7], [], []),
    ]
    batch = collate(rows, tokenizer, config)
    prefix_ids = batch.token_ids[:, : batch.copyable.shape[1]]
    assert prefix_ids[0][batch.starts[0]].tolist() == [place, place]
    assert batch.starts[1].nonzero().flatten().tolist() == [0]  # [CLS]: no answer here
    assert batch.targets[0][batch.target_mask[0]].tolist() == [place, tokenizer.sep_id]
    assert batch.targets[1][batch.target_mask[1]].tolist() == [tokenizer.sep_id]
    read = batch.answer_index[0][batch.target_mask[0]]
    assert batch.token_ids[0, read].tolist() == [tokenizer.mask_id, place]
    assert batch.positions[0, read].tolist() == [
        config.max_prefix_tokens,
        config.max_prefix_tokens + 1,
    ]
    assert set(prefix_ids[0][batch.pointer_targets[0, 0]].tolist()) == {place}
    assert not batch.pointer_targets[0, 1].any()
    mask = batch.mask[0, 0]
    prefix = int(batch.answer_index[0, 0])
    assert mask[:prefix, :prefix].all()
    assert not mask[:prefix, prefix:].any()
    assert mask[prefix + 1, : prefix + 2].all()
    assert not mask[prefix, prefix + 1]


# Unanswerables


@pytest.fixture
def article() -> QuestionSet:
    questions = QuestionSet()
    texts = [
        "The tower was built by Anna Berg in 1901 and sold in 1950 to Karl Meyer.",
        "The bridge was built by Otto Lang in 1877 near Old Town.",
        "The garden near the tower was planted in 1930.",
    ]
    for text in texts:
        questions.intern(text, "Town")
    questions.intern("A tower elsewhere.", "Other")
    add_crowd(questions)
    return questions


def add_crowd(questions: QuestionSet) -> None:
    """Passages that make the words of all others rare."""
    for number in range(400):
        questions.intern(f"Nothing of note, {number}.", "Crowd")


def asked(question: str, answer: str, **extra: Any) -> GroundedQuestion:
    return GroundedQuestion("s", "Town", question, (answer,), 0, **extra)


def test_a_similar_passage_is_of_the_article_and_lacks_the_answer(article: QuestionSet) -> None:
    maker = UnanswerableMaker(article)
    question = asked("Who built the tower near the bridge in 1901?", "Anna Berg")
    found = {maker.similar_passage(question, random.Random(seed)) for seed in range(20)}
    assert found == {article.passages[1], article.passages[2]}
    assert maker.similar_passage(asked("When?", "The"), random.Random(0)) is None


def test_a_searched_passage_is_one_of_its_own_without_the_answer(article: QuestionSet) -> None:
    maker = UnanswerableMaker(article)
    question = asked("When was it built?", "1877", hard_negatives=(1, 3))
    assert maker.searched_passage(question, random.Random(0)) == article.passages[3]
    assert maker.searched_passage(asked("When?", "1877"), random.Random(0)) is None


@pytest.mark.parametrize(
    ("question", "answer", "changed"),
    [
        ("Who sold the tower in 1950?", "Karl Meyer", {"1901", "1877", "1930", "not", "never", "n't"}),
        ("What did Anna Berg build?", "tower", {"Karl", "Otto", "Old", "not", "never", "n't"}),
        ("Who was the first owner?", "Anna Berg", {"last", "not", "never", "n't"}),
    ],
)
def test_a_changed_question_differs_in_a_name_a_number_a_direction_or_the_sign(
    article: QuestionSet, question: str, answer: str, changed: set[str]
) -> None:
    maker = UnanswerableMaker(article)
    found = {maker.changed_question(asked(question, answer), random.Random(seed)) for seed in range(40)}
    assert None not in found
    assert question not in found
    assert all(any(word in text for word in changed) for text in found if text)
    assert len(found) > 1


def test_a_question_that_nothing_can_be_changed_in_stays_unused(article: QuestionSet) -> None:
    assert UnanswerableMaker(article).changed_question(asked("Why?", "x"), random.Random(0)) is None


def test_a_changed_word_is_one_of_its_kind_that_the_passage_lacks(article: QuestionSet) -> None:
    maker = UnanswerableMaker(article, Substitutes({"bridge": ("tower", "tunnel", "ferry")}))
    question = GroundedQuestion("s", "Town", "Who has the bridge?", ("Otto Lang",), 1)
    found = {maker.changed_question(question, random.Random(seed)) for seed in range(60)}
    assert "Who has the tunnel?" in found
    assert "Who has the ferry?" in found
    with_tower = GroundedQuestion("s", "Town", "Who has the garden?", ("Anna",), 2)
    maker = UnanswerableMaker(article, Substitutes({"garden": ("tower",)}))
    assert "Who has the tower?" not in {
        maker.changed_question(with_tower, random.Random(seed)) for seed in range(60)
    }


def test_a_shared_change_takes_a_term_of_both_and_one_of_neither(article: QuestionSet) -> None:
    maker = UnanswerableMaker(
        article, Substitutes({"tower": ("garden", "bell", "bridge"), "sold": ("bought",)})
    )
    question = asked("Who got the tower that was sold in 1950?", "Karl Meyer")
    found = {maker.shared_change(question, random.Random(seed)) for seed in range(80)}
    assert None not in found
    passage = article.passages[0]
    for change in found:
        assert change is not None
        assert change.term.lower() in question.question.lower()
        assert change.term.lower() in passage.lower()
        assert change.other.lower() not in (question.question + passage).lower()
        assert "Karl Meyer" in change.made_in(passage)
    assert {change.term for change in found if change} == {"tower", "sold", "1950"}
    assert {change.other for change in found if change and change.term == "1950"} == {"1877", "1930"}


def test_a_shared_change_leaves_the_answer_alone(article: QuestionSet) -> None:
    maker = UnanswerableMaker(article, Substitutes({"tower": ("bell",)}))
    assert maker.shared_change(asked("What is the tower?", "The tower"), random.Random(0)) is None


def test_a_change_replaces_whole_words_and_keeps_capitals() -> None:
    change = Change("tower", "bell")
    assert change.made_in("Tower by tower; the towers stay.") == "Bell by bell; the towers stay."


def test_a_change_in_one_side_has_no_answer_and_in_both_has_it_again(
    tmp_path: Path, start_folder: Path
) -> None:
    records = [record | {"source": "facts"} for record in facts(1, 60)]
    (tmp_path / "facts.jsonl").write_text("\n".join(json.dumps(record) for record in records))

    def task(**kinds: float) -> GroundedQATask:
        shares = {"similar_passage": 0.0, "searched_passage": 0.0, "left_out": 0.0, "changed_question": 0.0}
        config = GroundedQAConfig(
            start_folder=str(start_folder),
            data_folder=str(tmp_path),
            questions=("facts.jsonl",),
            stages=(Stage(questions=40, windows=(48, 48)),),
            weights={"facts": 1.0},
            validation_share=0.0,
            unanswerable=UnanswerableConfig(**(shares | kinds)),
        )
        made = GroundedQATask(config, seed=1)
        add_crowd(made.questions)
        made.unanswerable = UnanswerableMaker(
            made.questions, Substitutes(dict.fromkeys(THINGS, ("bell", "lamp", "map")))
        )
        return made

    def examples(made: GroundedQATask) -> list[tuple[str, Example]]:
        draws = [draw for step in made._steps for batch in step for draw in batch]
        return [(draw.question.question, made.example(draw)) for draw in draws]

    one_side = task(share=1.0, changed_passage=1.0)
    changed = [(asked, example) for asked, example in examples(one_side) if not example.spans]
    assert len(changed) > 20
    for asked, example in changed:
        thing = asked.removeprefix("Where is the ").removesuffix("?")
        assert thing in one_side.tokenizer.decode(example.question_ids)
        assert thing not in one_side.tokenizer.decode(example.passage_ids).split()

    both = task(share=0.0, changed_both=1.0)
    different = 0
    for asked, example in examples(both):
        question = both.tokenizer.decode(example.question_ids)
        thing = question.split("the ")[1].split()[0].rstrip("?")
        place = both.tokenizer.decode(example.answer_ids)
        assert example.spans
        assert f"the {thing} is in the {place}" in both.tokenizer.decode(example.passage_ids)
        different += thing not in asked
    assert different > 10


# Substitutes


def test_substitutes_are_of_the_same_kind_and_form_and_no_synonyms() -> None:
    """The installed all-MiniLM-L6-v2 knows that summer is like winter, and that an army is military."""
    folder = default_embeddings_folder()
    words = Substitutes.from_transformer(start_reader(folder).transformer, folder / "tokenizer.json")
    assert "summer" in words.of("winter")
    assert {"smallest", "tallest"} <= set(words.of("largest"))
    assert not {"biggest", "large", "larger"} & set(words.of("largest"))
    assert "decreased" in words.of("increased")
    assert not {"increase", "increasing"} & set(words.of("increased"))
    assert words.of("a") == ()


def test_a_vocabulary_without_words_has_no_substitutes(tmp_path: Path, start_folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"[CLS]": 0, "[SEP]": 1}}}))
    words = Substitutes.from_transformer(start_reader(start_folder).transformer, tmp_path / "tokenizer.json")
    assert words.of("winter") == ()


# Scores and search


def test_scores_follow_squads_normalisation() -> None:
    assert normalise_answer("The  Blue, boat!") == "blue boat"
    assert exact_match("the blue boat", ["A Blue Boat."]) == 1
    assert word_f1("blue boat", ["the red boat"]) == pytest.approx(0.5)
    assert word_f1("boat", ["ship", "boat"]) == 1
    assert word_f1("", []) == 1
    assert word_f1("boat", []) == 0


def test_bm25_prefers_rare_words_and_short_texts() -> None:
    search = Bm25(["the boat " * 20, "the boat", "the island and the boat", "the road"])
    assert search.best("island boat", 3) == [2, 0, 1]
    assert search.best("nothing known", 3) == []
