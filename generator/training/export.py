"""From a training checkpoint to the folder that `Reader.load` takes.

python -m generator.training.export CHECKPOINT FOLDER RECIPE.toml --start ALL_MINILM_L6_V2 [--storage int8]
    [--after FOLDER]

`--after` names the reader that the run went on from (`task.reader_folder`): what it saw counts as well.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generator.errors import GeneratorError
from generator.reader.calibration import Calibration
from generator.reader.start import start_reader
from generator.reader.weights import ReaderFiles, Storage, file_sha256, load_reader, save_reader
from generator.training.checkpoint import TrainingState, load_checkpoint
from generator.training.config import load_config


def export_reader(
    checkpoint: Path,
    folder: Path,
    *,
    recipe: Path,
    start_folder: Path,
    storage: Storage = "int8",
    after: Path | None = None,
) -> TrainingState:
    """Write a reader from a checkpoint of `recipe`'s run from `start_folder` on; it is not calibrated yet."""
    task = load_config(recipe).task
    before = load_reader(after, start_folder)[1].training if after is not None else {}
    model = start_reader(start_folder)
    state = load_checkpoint(checkpoint, model=model, optimizer=None)
    files = ReaderFiles(
        architecture=model.config,
        calibration=Calibration(),
        embeddings_sha256=file_sha256(start_folder / "model.safetensors"),
        training={
            "recipe": recipe.name,
            "sources": dict(task.get("weights", {})),
            "held_out": {
                "default": task.get("validation_share", 0.05),
                **task.get("validation_shares", {}),
            },
            "unanswerable_share": task.get("unanswerable", {}).get("share"),
            "questions": int(state.counters.get("examples", 0)) + before.get("questions", 0),
            "tokens": int(state.counters.get("tokens", 0)) + before.get("tokens", 0),
            "steps": state.step + before.get("steps", 0),
            "seconds": round(state.seconds) + before.get("seconds", 0),
            **({"after": dict(before)} if before else {}),
        },
    )
    save_reader(folder, model, files, storage=storage)
    return state


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m generator.training.export", description="Export a reader."
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", type=Path, help="what the run was started with; named in config.json")
    parser.add_argument("--start", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--after", type=Path, help="folder of the reader that the run went on from")
    parser.add_argument("--storage", choices=("int8", "bfloat16", "float32"), default="int8")
    arguments = parser.parse_args()
    try:
        state = export_reader(
            arguments.checkpoint,
            arguments.folder,
            recipe=arguments.recipe,
            start_folder=arguments.start,
            storage=arguments.storage,
            after=arguments.after,
        )
    except GeneratorError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{arguments.folder}: step {state.step}, {state.counters.get('examples', 0):.0f} questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
