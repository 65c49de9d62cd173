"""Which examples make up which batch: sorted by length so that padding is rare, cut by a token budget."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence


def token_budget_batches(
    items: Sequence[int],
    length_of: Callable[[int], int],
    *,
    budget: int,
    rng: random.Random,
    noise: float = 0.1,
    pool: int = 2048,
) -> list[list[int]]:
    """Group `items` into batches of at most `budget` tokens, padding included (a longer item stands alone).

    Within pools of `pool` shuffled items, batches are cut from an order by noisy length: neighbours are about
    equally long, yet who meets whom differs. The batches come back shuffled.
    """
    if budget < 1:
        raise ValueError("budget must be at least 1 token")
    order = list(items)
    rng.shuffle(order)
    batches: list[list[int]] = []
    for begin in range(0, len(order), pool):
        noisy = [
            (length_of(item) * rng.uniform(1 - noise, 1 + noise), item)
            for item in order[begin : begin + pool]
        ]
        batch: list[int] = []
        longest = 0
        for _, item in sorted(noisy):
            longest_with = max(longest, length_of(item))
            if batch and longest_with * (len(batch) + 1) > budget:
                batches.append(batch)
                batch, longest_with = [], length_of(item)
            batch.append(item)
            longest = longest_with
        batches.append(batch)
    rng.shuffle(batches)
    return batches


def mixture(
    sizes: Sequence[int], weights: Sequence[float], *, count: int, rng: random.Random
) -> list[tuple[int, int]]:
    """`count` draws (group, index): groups by weight, their items without replacement until used up."""
    queues: list[list[int]] = [[] for _ in sizes]
    drawn = []
    for group in rng.choices(range(len(sizes)), weights, k=count):
        if not queues[group]:
            queues[group] = rng.sample(range(sizes[group]), sizes[group])
        drawn.append((group, queues[group].pop()))
    return drawn
