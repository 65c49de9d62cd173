"""The generator's face over tiny random checkpoints: completions, streams and grounded answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import generator
from generator import (
    Completion,
    ContinuousBatchingEngine,
    Generator,
    GroundedAnswer,
    SamplingOptions,
    TokenEvent,
)
from generator.cache.sizing import kv_bytes_per_token
from generator.checkpoint import CheckpointGenerator
from generator.embedded import ReaderGenerator
from generator.errors import (
    InvalidPrompt,
    InvalidSampling,
    PromptTooLong,
    TokenizerMissing,
    UnknownDevice,
    UnknownDtype,
    UnsupportedOperation,
)
from generator.prompting import UNANSWERABLE

PASSAGES = [
    ("tower", "The old tower is red. It was built in 1889."),
    ("bridge", "The bridge crosses the river."),
]


@pytest.fixture
def folder(save_checkpoint: Any, add_tokenizer: Any) -> Path:
    _, folder = save_checkpoint(max_position_embeddings=1024)
    add_tokenizer(folder)
    return folder


@pytest.fixture
def loaded(folder: Path) -> CheckpointGenerator:
    return Generator.load(folder, device="cpu", dtype="float32")


class Scripted(CheckpointGenerator):
    """A checkpoint whose model says what the test wants: everything but the sums is real."""

    def script(self, text: str) -> Scripted:
        self.spoken = self.tokenizer.encode(text, add_special_tokens=False)
        return self

    def _request(self, token_ids: list[int], options: SamplingOptions) -> Any:
        self.prompts = [token_ids]
        [end] = self.tokenizer.eos_token_ids
        script = iter([*self.spoken, end])
        width = self.model.config.vocab_size
        self.engine.runner.model = _Parrot(self.model, lambda: torch.eye(width)[next(script)] * 9)
        return super()._request(token_ids, options)


class _Parrot:
    """A model that runs for real and then projects to the scripted scores."""

    def __init__(self, model: Any, scores: Any) -> None:
        self._model, self._scores = model, scores

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        return self._scores()[None]


@pytest.fixture
def scripted(loaded: CheckpointGenerator) -> Scripted:
    # An engine that does not draft, so that the script is asked for one token after the other.
    engine = ContinuousBatchingEngine(loaded.model, loaded.tokenizer)
    return Scripted(loaded.model, loaded.tokenizer, engine=engine)


def last(events: Iterator[Any]) -> GroundedAnswer:
    *tokens, answer = events
    assert all(isinstance(event, TokenEvent) for event in tokens)
    assert isinstance(answer, GroundedAnswer)
    assert "".join(event.text for event in tokens) == answer.text
    return answer


def test_the_face_promises_what_the_package_exports() -> None:
    for name in generator.__all__:
        assert getattr(generator, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        generator.Nothing  # noqa: B018


def test_importing_the_package_does_not_import_pytorch() -> None:
    code = "import sys, generator, generator.types, generator.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_completions_say_how_they_ended_and_what_was_read(loaded: CheckpointGenerator) -> None:
    [completion] = loaded.generate(["the red tower"], max_new_tokens=5, ignore_eos=True)
    assert isinstance(completion, Completion)
    assert len(completion.token_ids) == 5
    assert completion.text == loaded.tokenizer.decode(completion.token_ids)
    assert completion.finish_reason == "length"
    assert completion.num_prompt_tokens == len(loaded.tokenizer.encode("the red tower"))
    assert completion.logprobs is None


def test_prompts_may_be_text_or_tokens_one_or_many(loaded: CheckpointGenerator) -> None:
    texts = ["the red tower", "a", "who built the old bridge on the river?"]
    tokens = [loaded.tokenizer.encode(text) for text in texts]
    options = SamplingOptions(max_new_tokens=6, ignore_eos=True)
    expected = [loaded.generate(text, options=options)[0] for text in texts]
    assert loaded.generate(texts, options=options) == expected
    assert loaded.generate(tokens, options=options) == expected
    assert loaded.generate([texts[0], *tokens[1:]], options=options) == expected
    assert loaded.generate(tokens[0], options=options) == expected[:1]
    assert loaded.generate(torch.tensor(tokens[0]), options=options) == expected[:1]
    assert loaded.generate(torch.tensor([tokens[0]]), options=options) == expected[:1]
    assert loaded.generate([torch.tensor(tokens[0])], options=options) == expected[:1]
    assert loaded.generate([]) == []
    for wrong in (3, [1.5], [[1, None]], [None]):
        with pytest.raises(InvalidPrompt, match="text or a list of token ids"):
            loaded.generate(wrong)


def test_keywords_override_options(loaded: CheckpointGenerator) -> None:
    options = SamplingOptions(max_new_tokens=9, ignore_eos=True)
    [completion] = loaded.generate("a", options=options, max_new_tokens=2)
    assert len(completion.token_ids) == 2
    with pytest.raises(InvalidSampling, match="max_new_tokens is 0"):
        loaded.generate("a", max_new_tokens=0)
    with pytest.raises(TypeError, match="colour"):
        loaded.generate("a", colour="red")


def test_logprobs_come_with_every_token_when_asked_for(loaded: CheckpointGenerator) -> None:
    [completion] = loaded.generate("the red", max_new_tokens=4, ignore_eos=True, logprobs=True)
    prompt = loaded.tokenizer.encode("the red")
    logits = loaded.logits([[*prompt, *completion.token_ids]])[0]
    for place, (token_id, logprob) in enumerate(completion.logprobs):
        assert token_id == completion.token_ids[place]
        model_logprob = logits[len(prompt) - 1 + place].log_softmax(-1)[token_id]
        assert logprob == pytest.approx(float(model_logprob), abs=1e-4)
    assert completion.top_logprobs is None


def test_top_logprobs_begin_with_the_greedy_token(loaded: CheckpointGenerator) -> None:
    [completion] = loaded.generate(
        "the red", max_new_tokens=4, ignore_eos=True, logprobs=True, top_logprobs=3, logit_bias={7: 0.0}
    )
    assert tuple(step[0] for step in completion.top_logprobs) == completion.logprobs
    assert [len(step) for step in completion.top_logprobs] == [3] * 4


def test_a_stream_joins_to_the_completion(loaded: CheckpointGenerator) -> None:
    for seed in range(4):
        options = SamplingOptions(temperature=1.5, seed=seed, max_new_tokens=25)
        events = list(loaded.stream("the red tower", options=options))
        [completion] = loaded.generate("the red tower", options=options)
        assert "".join(event.text for event in events) == completion.text
        assert tuple(event.token_id for event in events if event.token_id is not None) == completion.token_ids


def test_a_stop_text_across_tokens_ends_the_text_before_it(scripted: Scripted) -> None:
    scripted.script("hello world and the red tower")
    [completion] = scripted.generate("x", stop="d the r")
    assert completion.text == "hello world an"
    assert completion.finish_reason == "stop"
    assert "tower" not in scripted.tokenizer.decode(completion.token_ids)
    pieces = [event.text for event in scripted.stream("x", stop=["zzz", "d the r"])]
    assert "".join(pieces) == "hello world an"


def test_the_end_token_ends_without_a_trace_in_the_text(scripted: Scripted) -> None:
    [completion] = scripted.script("hello").generate("x")
    assert completion.text == "hello"
    assert completion.finish_reason == "stop"
    assert completion.token_ids[-1] in scripted.eos_token_ids


def test_an_end_token_with_a_text_of_its_own_does_not_show_it(folder: Path) -> None:
    plain = Generator.load(folder, device="cpu", dtype="float32")
    [free] = plain.generate("the red tower", max_new_tokens=6)
    ending = CheckpointGenerator(plain.model, plain.tokenizer, eos_token_ids=frozenset({free.token_ids[3]}))
    first = free.token_ids.index(free.token_ids[3])
    [completion] = ending.generate("the red tower", max_new_tokens=6)
    assert completion.token_ids == free.token_ids[: first + 1]
    assert completion.text == plain.tokenizer.decode(free.token_ids[:first])


def test_an_answer_cites_verbatim_evidence(scripted: Scripted) -> None:
    answer = last(scripted.script(" The tower was built in 1889 [1]. [9]\n").answer_stream("when?", PASSAGES))
    assert answer.text == "The tower was built in 1889 [1]."
    assert answer.supported
    assert answer.passage_ids == ("tower",)
    [span] = answer.spans
    assert dict(PASSAGES)[span.passage_id][span.start : span.end] == "It was built in 1889."
    assert 0 < answer.confidence <= 1
    assert answer.usage.num_output_tokens == len(scripted.spoken) + 1
    assert answer.usage.num_prompt_tokens > 50
    assert scripted.answer("when?", PASSAGES) == answer


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (UNANSWERABLE, UNANSWERABLE),
        ("Zebras eat grass [1].", "Zebras eat grass. [?]"),
        ("The passages do not say who built it in 1889.", "The passages do not say who built it in 1889."),
        (
            "It was built in 1889 [1]. The text has no name.",
            "It was built in 1889 [1]. The text has no name.",
        ),
        ("", UNANSWERABLE),
        (" \n", UNANSWERABLE),
    ],
)
def test_what_the_passages_do_not_carry_is_marked_unsupported(
    scripted: Scripted, said: str, shown: str
) -> None:
    answer = last(scripted.script(said).answer_stream("when?", PASSAGES))
    assert answer.text == shown
    assert not answer.supported
    assert (answer.spans, answer.passage_ids, answer.confidence) == ((), (), 0.0)


def test_without_passages_the_model_is_not_even_asked(loaded: CheckpointGenerator) -> None:
    answer = last(loaded.answer_stream("when?", []))
    assert (answer.text, answer.supported) == (UNANSWERABLE, False)
    assert answer.usage == (0, 0)


def test_an_answer_reads_the_chat_template(scripted: Scripted) -> None:
    scripted.script("1889 [1].").answer("when?", PASSAGES)
    [prompt] = scripted.prompts
    text = scripted.tokenizer.backend.decode(prompt, skip_special_tokens=False)
    assert text.startswith("<|start|>system\n")
    assert text.endswith("Question: when?<|end|>\n<|start|>assistant\n")


def test_long_passages_are_cut_to_the_context(scripted: Scripted) -> None:
    passages = [("long", "The tower was built in 1889. " * 300)]
    answer = scripted.script("The tower was built in 1889 [1].").answer("when?", passages)
    assert answer.supported
    assert answer.usage.num_prompt_tokens < 1024


def test_passages_that_change_places_keep_their_numbers_in_the_answer(scripted: Scripted) -> None:
    tower, bridge = PASSAGES
    said = scripted.script("The bridge crosses the river [1].")
    said.answer("where?", [bridge, tower])
    close = {"scores": [0.50, 0.49], "score_band": 0.05}
    answer = last(said.answer_stream("when?", [tower, bridge], **close))
    assert "[1] The bridge" in said.tokenizer.decode(said.prompts[0])  # as it is cached already
    assert answer.text == "The bridge crosses the river [2]."
    assert answer.passage_ids == ("bridge",)
    far = {"scores": [0.50, 0.30], "score_band": 0.05}
    kept = last(said.answer_stream("when?", [tower, bridge], **far))
    assert "[1] The old tower" in said.tokenizer.decode(said.prompts[0])
    assert "[1]" not in kept.text  # the tower's sentences do not say so


def test_passages_are_cut_to_a_memory_that_is_smaller_than_the_context(loaded: CheckpointGenerator) -> None:
    memory = 700  # tokens, of a context of 1024
    kv_bytes = memory * kv_bytes_per_token(loaded.model.config, loaded.model.dtype)
    engine = ContinuousBatchingEngine(loaded.model, loaded.tokenizer, kv_bytes=kv_bytes)
    small = CheckpointGenerator(loaded.model, loaded.tokenizer, engine=engine)
    passages = [("long", "The tower was built in 1889. " * 300)]
    answer = small.answer("when?", passages, max_new_tokens=8)
    assert 600 < answer.usage.num_prompt_tokens <= memory - 8


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_a_typed_error(loaded: CheckpointGenerator, question: str) -> None:
    with pytest.raises(InvalidPrompt, match="question is empty"):
        loaded.answer(question, PASSAGES)


def test_a_question_longer_than_the_context_is_a_typed_error(loaded: CheckpointGenerator) -> None:
    with pytest.raises(PromptTooLong):
        loaded.answer("why? " * 1000, PASSAGES)


def test_a_folder_without_tokenizer_takes_tokens_only(save_checkpoint: Any) -> None:
    _, folder = save_checkpoint()
    loaded = Generator.load(folder, device="cpu", dtype="float32")
    [completion] = loaded.generate([[1, 2, 3]], max_new_tokens=3)
    assert completion.text == ""
    assert len(completion.token_ids) == 3
    assert [event.token_id for event in loaded.stream([1, 2, 3], max_new_tokens=3)] == list(
        completion.token_ids
    )
    for call in (
        lambda: loaded.generate("text"),
        lambda: loaded.stream("text"),
        lambda: loaded.generate([[1]], stop="x"),
        lambda: loaded.answer("why?", PASSAGES),
    ):
        with pytest.raises(TokenizerMissing, match=r"no tokenizer\.json"):
            call()


def test_logits_take_tensors_and_lists_of_equal_length(loaded: CheckpointGenerator) -> None:
    token_ids = torch.arange(12).reshape(2, 6)
    logits = loaded.logits(token_ids)
    assert logits.shape == (2, 6, 300)
    assert logits.dtype == torch.float32
    assert torch.equal(loaded.logits(token_ids.tolist()), logits)
    with pytest.raises(InvalidPrompt, match=r"\(batch, tokens\)"):
        loaded.logits(torch.arange(5))
    with pytest.raises(InvalidPrompt, match="token 300"):
        loaded.logits([[300]])


def test_the_end_tokens_of_model_and_tokenizer_all_count(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7]}))
    loaded = Generator.load(folder, device="cpu", dtype="float32")
    assert loaded.eos_token_ids == {7, loaded.tokenizer.backend.token_to_id("<|eos|>")}


class OneLineReader:
    """Stands in for the embedded reader."""

    def answer_stream(self, question: str, passages: Any, *, max_new_tokens: int | None) -> Iterator[Any]:
        self.asked = (question, passages, max_new_tokens)
        yield TokenEvent("1889 [1]")
        yield GroundedAnswer("1889 [1]", True, 0.9, (), ("tower",), generator.Usage(1, 1))


def test_the_reader_answers_behind_the_same_face() -> None:
    reader = OneLineReader()
    loaded = ReaderGenerator(reader)
    assert last(loaded.answer_stream("when?", PASSAGES, temperature=0.5)).text == "1889 [1]"
    assert reader.asked == ("when?", PASSAGES, None)
    assert loaded.answer("when?", PASSAGES, max_new_tokens=7).supported
    assert reader.asked[2] == 7
    loaded.answer("when?", PASSAGES, options=SamplingOptions(max_new_tokens=5))
    assert reader.asked[2] == 5


def test_the_reader_does_nothing_else_and_says_so() -> None:
    loaded = ReaderGenerator(OneLineReader())
    for call in (
        lambda: loaded.generate("text"),
        lambda: loaded.stream("text"),
        lambda: loaded.logits([[1]]),
    ):
        with pytest.raises(UnsupportedOperation, match="only answers questions from passages"):
            call()


def test_the_reader_takes_no_adapter(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperation, match="takes no adapters"):
        Generator.load("reader", device="cpu", adapter=tmp_path)


def test_compiled_layers_are_refused_where_there_are_none(folder: Path) -> None:
    with pytest.raises(UnsupportedOperation, match="on GPUs only"):
        Generator.load(folder, device="cpu", compile_layers=True)
    with pytest.raises(UnsupportedOperation, match="not compiled"):
        Generator.load("reader", device="cpu", compile_layers=True)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_dtypes_generate_on_the_cpu(folder: Path, dtype: str) -> None:
    loaded = Generator.load(folder, device="cpu", dtype=dtype)
    outputs = loaded.generate(["the red tower", "a"], max_new_tokens=4, ignore_eos=True)
    assert [len(output.token_ids) for output in outputs] == [4, 4]
    assert loaded.logits([[1, 2]]).dtype == torch.float32


def test_unknown_devices_and_dtypes_are_refused_before_anything_is_read() -> None:
    with pytest.raises(UnknownDevice):
        Generator.load("./nothing", device="tpu")
    with pytest.raises(UnknownDtype):
        Generator.load("./nothing", device="cpu", dtype="int3")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_the_cpu(folder: Path, loaded: CheckpointGenerator) -> None:
    on_gpu = Generator.load(folder, device="cuda", dtype="float32")
    prompts = ["the red tower", "a", "who built the old bridge?"]
    torch.testing.assert_close(
        on_gpu.logits([[1, 2, 3]]).cpu(), loaded.logits([[1, 2, 3]]), atol=1e-3, rtol=1e-3
    )
    for options in (
        SamplingOptions(max_new_tokens=8),
        SamplingOptions(max_new_tokens=8, temperature=0.8, seed=1),
    ):
        ours = [completion.token_ids for completion in on_gpu.generate(prompts, options=options)]
        assert ours == [completion.token_ids for completion in loaded.generate(prompts, options=options)]
