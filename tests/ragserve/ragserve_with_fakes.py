"""The `ragserve` command in a process of its own, with the small parts in place of the models.

SECONDS_PER_TOKEN says how slowly its generator speaks; GO_ON names a file that it waits for before it does.
With LOADS_FOR_EVER the generator is never there: "loading" on stderr tells that this has begun.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from ragserve_fakes import BestLineGenerator, HashingEmbedder

from ragserve import parts
from ragserve.cli import main


def open_generator(settings: object) -> BestLineGenerator:
    if "LOADS_FOR_EVER" in os.environ:
        print("loading", file=sys.stderr, flush=True)
        threading.Event().wait()
    generator = BestLineGenerator()

    def wait() -> None:
        if generator.num_calls == 1:  # the server warms up
            return
        time.sleep(float(os.environ.get("SECONDS_PER_TOKEN", "0")))
        while "GO_ON" in os.environ and not Path(os.environ["GO_ON"]).exists():
            time.sleep(0.01)

    generator.before_token = wait
    return generator


parts.open_embedder = lambda settings: HashingEmbedder()
parts.open_generator = open_generator

if __name__ == "__main__":  # parsing processes import this module too
    sys.exit(main())
