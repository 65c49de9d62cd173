from __future__ import annotations

from pathlib import Path

import pytest

from generator.training.config import load_config, parse_dataclass
from generator.training.errors import InvalidTrainingConfig
from generator.training.grounded_config import GroundedQAConfig, Stage
from generator.training.run import build_task

MINIMAL = '[run]\nfolder = "runs/x"\n[task]\nkind = "grounded-qa"\n'
RECIPE = Path(__file__).parents[3] / "generator" / "training" / "recipes" / "reader.toml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_defaults_fill_what_a_file_leaves_out(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL))
    assert config.run.folder == "runs/x"
    assert config.optimizer.betas == (0.9, 0.98)
    assert config.task == {"kind": "grounded-qa"}


def test_integers_pass_as_decimals_and_lists_as_tuples(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, MINIMAL + "[optimizer]\nclip_norm = 2\nbetas = [0.8, 0.9]\n"))
    assert config.optimizer.clip_norm == 2.0
    assert isinstance(config.optimizer.clip_norm, float)
    assert config.optimizer.betas == (0.8, 0.9)


def test_overrides_take_toml_values_and_bare_words(tmp_path: Path) -> None:
    config = load_config(
        written(tmp_path, MINIMAL),
        overrides=["run.max_steps=7", "run.folder=/elsewhere/run", "task.weights.squad=0.5"],
    )
    assert (config.run.max_steps, config.run.folder) == (7, "/elsewhere/run")
    assert config.task["weights"] == {"squad": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "[optimiser]\n", "Unknown key 'optimiser'. Did you mean 'optimizer'?"),
        (MINIMAL + "[optimizer]\nlearning_rat = 1\n", "Did you mean 'learning_rate'?"),
        ('[task]\nkind = "x"\n', "The key 'run' is missing."),
        ("[run]\n[task]\n", "The key 'run.folder' is missing."),
        ("[run]\nfolder = 3\n[task]\n", "'run.folder' is 3, which is no str."),
        (MINIMAL + '[optimizer]\neps = "small"\n', "'optimizer.eps' is 'small', which is no float."),
        (MINIMAL + "[optimizer]\nbetas = [0.9]\n", "'optimizer.betas' needs 2 values, but has 1."),
        ('[run]\nfolder = "x"\nseed = true\n[task]\n', "'run.seed' is True, which is no int."),
        (
            '[run]\nfolder = "x"\nprecision = "bf16"\n[task]\n',
            "'run.precision' is 'bf16', which means",
        ),
        ('[run]\nfolder = "x"\nprecision = "float23"\n[task]\n', "Did you mean 'float32'?"),
        (MINIMAL + "[optimizer]\nclip_norm = 0\n", "'optimizer.clip_norm' is 0.0, but must be above 0."),
        (MINIMAL + "[optimizer]\nlearning_rate = nan\n", "'optimizer.learning_rate' is nan, but must be"),
        ('[run]\nfolder = "x"\nlog_steps = 0\n[task]\n', "'run.log_steps' is 0, but must be above 0."),
        ("run = 3\n[task]\n", "'run' is 3, which is no Mapping."),
        ("[run\n", "is not a TOML file"),
    ],
)
def test_every_mistake_names_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidTrainingConfig) as caught:
        load_config(written(tmp_path, text))
    assert message in str(caught.value)


def test_a_missing_file_and_a_malformed_override_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrainingConfig, match="cannot be read"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(InvalidTrainingConfig, match=r"section\.key=value"):
        load_config(written(tmp_path, MINIMAL), overrides=["run.seed"])
    with pytest.raises(InvalidTrainingConfig, match="no table"):
        load_config(written(tmp_path, MINIMAL), overrides=["run.folder.deeper=1"])


def test_an_unknown_task_lists_the_known_ones(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, '[run]\nfolder = "x"\n[task]\nkind = "poetry"\n'))
    with pytest.raises(InvalidTrainingConfig, match="'grounded-qa'"):
        build_task(config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stages", (), "'task.stages' holds no question"),
        ("batches_per_step", 0, "'task.batches_per_step' is 0, but must be above 0"),
    ],
)
def test_a_task_that_cannot_begin_is_refused(key: str, value: object, message: str) -> None:
    data = dict(load_config(RECIPE).task) | {key: value}
    with pytest.raises(InvalidTrainingConfig, match=message):
        parse_dataclass(GroundedQAConfig, data, where="task")


def test_the_shipped_recipe_is_a_valid_configuration() -> None:
    config = load_config(RECIPE)
    task = parse_dataclass(GroundedQAConfig, config.task, where="task")
    assert sum(task.weights.values()) == pytest.approx(1)
    assert all(isinstance(stage, Stage) for stage in task.stages)
    assert config.run.precision == "bfloat16"
