"""Starts one run for each optimiser, each in a process that kills itself with SIGKILL after a step.

    python kill_runs.py FOLDER STEP

One interpreter that forks, because importing PyTorch six times would take longer than all the rest.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytorch_optimizer  # noqa: F401 - once, before the forks
import torch
from successor import NAMES, SuccessorTask, successor_config

from generator.training.progress import TrainingProgress
from generator.training.trainer import Trainer


def main() -> int:
    """The exit code is that of nothing having gone wrong before the kill."""
    folder, step = Path(sys.argv[1]), int(sys.argv[2])

    def kill(progress: TrainingProgress) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    for name in NAMES:
        child = os.fork()
        if child == 0:
            config = successor_config(folder / name, name, checkpoint_seconds=0.0)
            Trainer(config, SuccessorTask(), on_progress=kill).run()
            os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
