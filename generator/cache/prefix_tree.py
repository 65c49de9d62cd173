"""Which beginnings of texts are computed: a tree of token blocks, each found by comparing its tokens.

A node is one full block of tokens behind another, so a path from a root is a prefix. Children are found in a
dictionary keyed by the tokens themselves: equal hashes of different tokens cannot be mistaken for a hit.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence


class PrefixNode:
    """One block of tokens, and the block that holds its keys and values in each group, if any still does."""

    __slots__ = ("blocks", "children", "parent", "tokens")

    def __init__(self, parent: PrefixNode | None, tokens: tuple[int, ...], num_groups: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.children: dict[tuple[int, ...], PrefixNode] = {}
        self.blocks: list[int | None] = [None] * num_groups


class PrefixTree:
    """A root for each namespace (model, dtype, adapter); nodes live as long as a block of theirs or below."""

    def __init__(self, block_size: int, num_groups: int) -> None:
        self._block_size = block_size
        self._num_groups = num_groups
        self._roots: dict[Hashable, PrefixNode] = {}

    def root(self, namespace: Hashable) -> PrefixNode:
        """Where a namespace's prefixes begin."""
        if namespace not in self._roots:
            self._roots[namespace] = PrefixNode(None, (), self._num_groups)
        return self._roots[namespace]

    def match(self, token_ids: Sequence[int], namespace: Hashable) -> list[PrefixNode]:
        """The known blocks that `token_ids` begins with, in order."""
        node, path = self.root(namespace), []
        for start in range(0, len(token_ids) - self._block_size + 1, self._block_size):
            child = node.children.get(tuple(token_ids[start : start + self._block_size]))
            if child is None:
                break
            path.append(child)
            node = child
        return path

    def child(self, node: PrefixNode, tokens: tuple[int, ...]) -> PrefixNode:
        """The node of `tokens` behind `node`, made where there is none."""
        found = node.children.get(tokens)
        if found is None:
            found = node.children[tokens] = PrefixNode(node, tokens, self._num_groups)
        return found

    def prune(self, node: PrefixNode) -> None:
        """Remove a node that leads nowhere, and the ancestors that thereby lead nowhere."""
        current: PrefixNode | None = node
        while current is not None and current.parent is not None:
            if current.children or any(block is not None for block in current.blocks):
                return
            parent = current.parent
            if parent.children.get(current.tokens) is current:
                del parent.children[current.tokens]
            current = parent

    def nodes(self) -> Iterator[PrefixNode]:
        """Every node but the roots."""
        pending = [child for root in self._roots.values() for child in root.children.values()]
        while pending:
            node = pending.pop()
            yield node
            pending += node.children.values()
