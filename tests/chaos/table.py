"""What a follower has: rows put together by the rules that a reader of ours is told."""

from __future__ import annotations

from sisock.blocks import Block, merge
from sisock.followed import Missing
from sisock.store.layers import outside


class Table:
    def __init__(self) -> None:
        self.block = Block.of([], {})
        self.gaps: list[Missing] = []
        self.blocks = self.revisions = 0

    def take(self, item) -> None:
        if isinstance(item, Missing):
            self.gaps.append(item)
            return
        self.blocks += 1
        self.revisions += len(item.revises)
        for start, end in item.revises:
            self.block = outside(self.block, start, end)
        low, high = self.block.t.searchsorted(item.block.t), self.block.t.searchsorted(item.block.t, side="right")
        assert (low == high).all(), "a row came twice"
        self.block = merge(self.block, item.block)
