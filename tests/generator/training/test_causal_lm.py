from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from generator import Generator
from generator.errors import GeneratorError, TokenizerMissing
from generator.prompting import UNANSWERABLE, build_prompt
from generator.tokenizer import Tokenizer
from generator.training import train_from_file
from generator.training.causal_rows import RowMaker, collate_rows
from generator.training.config import load_config
from generator.training.errors import CheckpointNotSaved, InvalidTrainingConfig, InvalidTrainingData
from generator.training.model_folder import replace_folder
from generator.training.run import build_task
from generator.training.trainer import LAST, Trainer

from .conftest import facts
from .test_training import interrupt_after, losses

Write = Callable[..., Path]
SCRATCH = """
tokenizer_folder = "{folder}"
[task.model]
hidden_size = 32
intermediate_size = 48
num_layers = 2
num_heads = 4
num_kv_heads = 2
max_positions = 128
"""
TOKENS = torch.arange(24).reshape(2, 12)


@pytest.fixture
def base(save_checkpoint: Any, add_tokenizer: Any) -> Path:
    """A random Llama with a tokenizer."""
    _, folder = save_checkpoint(max_position_embeddings=640)
    add_tokenizer(folder)
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes records and a configuration."""

    def write_files(records: list[dict[str, Any]], task: str, *, run: str = "") -> Path:
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        path = tmp_path / "config.toml"
        path.write_text(
            f"""
[run]
folder = "{tmp_path / "run"}"
threads = 1
log_steps = 1
flop_ceiling = 1e12
plots = false
{run}
[optimizer]
learning_rate = 1e-2
[task]
kind = "causal-lm"
data = ["{tmp_path / "data.jsonl"}"]
{task}
"""
        )
        return path

    return write_files


def pairs(count: int) -> list[dict[str, str]]:
    colours = ["red", "blue", "old", "tall"]
    things = ["tower", "bridge", "river", "city"]
    return [{"prompt": f"the {things[i % 4]} is", "completion": f" {colours[i % 4]}"} for i in range(count)]


def test_a_model_from_scratch_learns_and_is_saved_as_a_model_folder(
    write: Write, base: Path, tmp_path: Path
) -> None:
    task = "epochs = 60\nvalidation_share = 0\ntokens_per_batch = 256" + SCRATCH.format(folder=base)
    report = train_from_file(write(pairs(8), task))
    assert report.model_folder == str(tmp_path / "run" / "model")
    loaded = Generator.load(report.model_folder, device="cpu", dtype="float32")
    written = loaded.generate(["the tower is", "the river is"], max_new_tokens=8)
    assert [completion.text for completion in written] == [" red", " old"]
    assert {completion.finish_reason for completion in written} == {"stop"}  # the end was learned, too

    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(report.model_folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.logits(TOKENS), theirs(TOKENS).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_checkpoint_of_a_family_is_fine_tuned_and_stays_one(
    family: str, write: Write, save_checkpoint: Any, add_tokenizer: Any
) -> None:
    _, folder = save_checkpoint(family)
    add_tokenizer(folder)
    path = write(pairs(8), f'start = "{folder}"\nepochs = 3\nvalidation_share = 0\nsave_dtype = "bfloat16"')
    report = train_from_file(path)
    before, after = json.loads((folder / "config.json").read_text()), Path(str(report.model_folder))
    assert json.loads((after / "config.json").read_text())["model_type"] == before["model_type"]
    logits = Generator.load(after, device="cpu", dtype="bfloat16").logits(TOKENS)
    assert not torch.equal(logits, Generator.load(folder, device="cpu", dtype="bfloat16").logits(TOKENS))


def test_a_lora_run_changes_the_adapter_alone_and_peft_reads_it(
    write: Write, base: Path, tmp_path: Path
) -> None:
    lora = f'start = "{base}"\nepochs = 4\nvalidation_share = 0\n[task.lora]\nrank = 3\nalpha = 5\n'
    path = write(pairs(8), lora + 'targets = ["q_proj", "v_proj", "up_proj", "down_proj"]')
    config = load_config(path)
    trainer = Trainer(config, build_task(config))
    start = {name: p.clone() for name, p in trainer.model.named_parameters()}
    report = trainer.run()
    changed = {n for n, p in trainer.model.named_parameters() if not torch.equal(p, start[n])}
    assert changed == {name for name in start if "downs" in name or "ups" in name}

    adapter = tmp_path / "run" / "adapter"
    assert report.model_folder == str(adapter)
    ours = Generator.load(base, device="cpu", dtype="float32", adapter=adapter).logits(TOKENS)
    with torch.no_grad():
        trained = trainer.model.eval().project(trainer.model(TOKENS))
    torch.testing.assert_close(ours, trained, atol=1e-4, rtol=1e-4)
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(TOKENS).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("extra", ["", "[task.lora]\nrank = 2\ndropout = 0.3"])
def test_checkpointed_layers_accumulation_and_resumption_change_no_loss(
    extra: str, write: Write, base: Path, tmp_path: Path
) -> None:
    task = (
        f'start = "{base}"\nepochs = 3\nvalidation_share = 0\ntokens_per_batch = 30\nbatches_per_step = 2\n'
    )
    path = write(pairs(8), task + extra)
    train_from_file(path, overrides=[f"run.folder={tmp_path / 'plain'}"])
    parts = [f"run.folder={tmp_path / 'parts'}", "run.gradient_checkpointing=true"]
    assert train_from_file(path, overrides=parts, on_progress=interrupt_after(2)).interrupted
    train_from_file(path, overrides=parts)
    found, expected = losses(tmp_path / "parts"), losses(tmp_path / "plain")
    assert found.keys() == expected.keys()
    for step in found:
        assert found[step] == pytest.approx(expected[step], rel=1e-4)


def test_mixed_precision_follows_float32(write: Write, base: Path, tmp_path: Path) -> None:
    path = write(pairs(8), f'start = "{base}"\nepochs = 2\nvalidation_share = 0\ntokens_per_batch = 60')
    for name in ("float32", "bfloat16"):
        train_from_file(path, overrides=[f"run.folder={tmp_path / name}", f"run.precision={name}"])
    expected = losses(tmp_path / "float32")
    for step, (loss, _) in losses(tmp_path / "bfloat16").items():
        assert loss == pytest.approx(expected[step][0], rel=0.05)


@pytest.fixture
def tokenizer(base: Path) -> Tokenizer:
    found = Tokenizer.from_folder(base)
    assert found is not None
    return found


def test_only_the_completion_and_the_end_are_learned(tokenizer: Tokenizer) -> None:
    maker = RowMaker(tokenizer, max_tokens=64)
    (row,) = maker.rows({"prompt": "the tower", "completion": " is tall"}, "here")
    learned = row.token_ids[row.num_given :]
    assert tokenizer.decode(learned) == " is tall"
    assert learned[-1] in tokenizer.eos_token_ids
    batch = collate_rows([row, *maker.rows({"text": "hello"}, "here")])
    assert batch.targets[0][batch.target_mask[0]].tolist() == learned
    assert int(batch.target_mask[1].sum()) == len(tokenizer.encode("hello"))  # all but the first, and the end


def test_a_tokenizer_without_an_end_takes_the_one_of_the_model(
    write: Write, save_checkpoint: Any, add_tokenizer: Any
) -> None:
    _, folder = save_checkpoint(eos_token_id=7)
    add_tokenizer(folder, eos="")
    config = load_config(write(pairs(4), f'start = "{folder}"\nvalidation_share = 0'))
    built: Any = build_task(config)
    assert {row.token_ids[-1] for row in built.rows} == {7}


def test_each_turn_of_the_assistant_is_learned_after_what_came_before(tokenizer: Tokenizer) -> None:
    turns = [("user", "hello"), ("assistant", "world"), ("user", "who"), ("assistant", "numbers")]
    messages: Any = [{"role": role, "content": content} for role, content in turns]
    first, second = RowMaker(tokenizer, max_tokens=99).rows({"messages": messages}, "here")
    assert first.token_ids[: first.num_given] == tokenizer.apply_chat_template(messages[:1])
    assert second.token_ids[: second.num_given] == tokenizer.apply_chat_template(messages[:3])
    assert tokenizer.decode(second.token_ids[second.num_given :]) == "numbers"


def test_a_long_text_is_split_without_losing_a_token(tokenizer: Tokenizer) -> None:
    text = "the bridge is tall and the river is blue " * 9
    rows = RowMaker(tokenizer, max_tokens=16).rows({"text": text}, "here")
    assert all(len(row.token_ids) <= 16 for row in rows)
    learned = [token for row in rows for token in row.token_ids[row.num_given :]]
    assert tokenizer.decode([rows[0].token_ids[0], *learned]) == text


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "x"}, "line 2: the field 'completion' is no text"),
        ({"text": 3}, "line 2: the field 'text' is no text"),
        ({"title": "x"}, "line 2: the record has none of the known fields"),
        ({"text": "x", "prompt": "y"}, "line 2: the record has 'text' and 'prompt'"),
        ({"messages": "hello"}, "line 2: the field 'messages' is no list of turns"),
        ({"messages": [{"role": "user", "content": "x"}]}, "line 2: the field 'messages' has no answer"),
    ],
)
def test_a_malformed_record_is_named_by_line_and_field(
    record: dict[str, Any], message: str, write: Write, base: Path
) -> None:
    path = write([pairs(1)[0], record], f'start = "{base}"')
    with pytest.raises(InvalidTrainingData, match=message):
        train_from_file(path)


@pytest.mark.parametrize(
    ("records", "task", "error", "message"),
    [
        ([], 'start = "{base}"', InvalidTrainingData, "is empty"),
        ([{"text": "x"}], "", InvalidTrainingConfig, "either 'task.start' or 'task.model'"),
        ([{"text": "x"}], 'start = "{base}"\nstrat = 1', InvalidTrainingConfig, "Did you mean 'start'"),
        ([{"text": "x"}], 'start = "/nowhere/at all"', GeneratorError, "There is no folder"),
        ([{"text": "x"}], 'start = "{base}"\nepochs = 0', InvalidTrainingConfig, "must be above 0"),
        (
            [{"prompt": "the " * 99, "completion": "x"}],
            'start = "{base}"\nmax_tokens = 20',
            InvalidTrainingData,
            "1 rows were too long",
        ),
        (
            [{"text": "x y"}],
            'start = "{base}"\n[task.lora]\ntargets = ["query"]',
            InvalidTrainingConfig,
            "names 'query'",
        ),
        (
            [{"text": "x y"}],
            SCRATCH + "norm = 'layernorm'",
            InvalidTrainingConfig,
            "no Hugging Face family",
        ),
        ([{"text": "x y"}], SCRATCH + "num_layerz = 1", InvalidTrainingConfig, "Did you mean 'num_layers'"),
    ],
)
def test_bad_input_is_a_typed_error(
    records: list[dict[str, Any]], task: str, error: type[Exception], message: str, write: Write, base: Path
) -> None:
    task = task.replace("{base}", str(base)).replace("{folder}", str(base))
    with pytest.raises(error, match=message):
        train_from_file(write(records, task), overrides=["task.validation_share=0"])


def test_a_folder_without_a_tokenizer_and_a_checkpoint_of_another_shape_are_refused(
    write: Write, save_checkpoint: Any, base: Path, tmp_path: Path
) -> None:
    _, bare = save_checkpoint(seed=1)
    with pytest.raises(TokenizerMissing, match=r"tokenizer\.json"):
        train_from_file(write(pairs(4), f'start = "{bare}"'))
    path = write(pairs(4), "epochs = 1\nvalidation_share = 0" + SCRATCH.format(folder=base))
    train_from_file(path)
    assert (tmp_path / "run" / LAST).exists()
    with pytest.raises(GeneratorError, match=r"is of another model"):
        train_from_file(path, overrides=["task.model.num_layers=1"])


def test_grounded_questions_become_the_prompt_that_answering_uses(
    write: Write, base: Path, tokenizer: Tokenizer
) -> None:
    task = f'start = "{base}"\nformat = "grounded"\nmax_tokens = 640\nvalidation_share = 0.3\n'
    path = write(facts(1, 30), task + "[task.grounded]\nnum_passages = 2\nunanswerable_share = 0.4")
    config = load_config(path)
    built: Any = build_task(config)
    by_question = {record["question"]: record for record in facts(1, 30)}
    refusals = 0
    for row in built.rows:
        record = by_question.get(row.name)
        text = tokenizer.decode(row.token_ids[row.num_given :])
        prompt = tokenizer.decode(row.token_ids[: row.num_given])
        assert f"Question: {row.name}" in prompt
        refusals += text == UNANSWERABLE
        if text != UNANSWERABLE and record is not None:
            rank = text[-2]
            assert text == f"{text[:-4]} [{rank}]"
            cited = prompt.split(f"[{rank}] ")[-1].split("\n\n")[0]
            assert text[:-4] in cited
            whole = [("a", p.split("] ", 1)[1]) for p in prompt.split("Passages:")[1].split("\n\n")[1:-1]]
            assert (
                build_prompt(tokenizer, row.name, whole, max_tokens=999).token_ids
                == row.token_ids[: row.num_given]
            )
    assert 0 < refusals < len(built.rows)
    with torch.no_grad():
        figures = built.validate(built.build_model().eval())
    assert {"loss", "perplexity", "f1", "cited_right", "abstention_recall"} == figures.keys()


def test_a_model_folder_that_cannot_be_written_leaves_the_one_before_it(tmp_path: Path) -> None:
    folder = replace_folder(tmp_path / "model", lambda into: touch(into / "old"))

    def full(into: Path) -> None:
        touch(into / "new")
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointNotSaved, match="No space"):
        replace_folder(folder, full)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "old"]


def touch(path: Path) -> None:
    path.touch()
