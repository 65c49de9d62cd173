"""The `ragserve` command in a process of its own, with the small parts in place of the models.

SECONDS_PER_TOKEN says how slowly its generator speaks.
"""

from __future__ import annotations

import os
import sys

from ragserve_fakes import BestLineGenerator, HashingEmbedder

from ragserve import parts
from ragserve.cli import main

parts.open_embedder = lambda settings: HashingEmbedder()
parts.open_generator = lambda settings: BestLineGenerator(
    seconds_per_token=float(os.environ.get("SECONDS_PER_TOKEN", "0"))
)

if __name__ == "__main__":  # parsing processes import this module too
    sys.exit(main())
