import numpy as np

from sisock.blocks import Block, Column
from sisock.store.info import info

from .test_contract import cut, keep, some


def test_a_store_in_figures(history, store):
    assert info(store) == []
    block = some(20_000)
    keep(history, "t", *cut(block))
    keep(history, "t", Block(block.t[:1] + 1, {"x": Column(np.array([1.0]))}), correct=True)
    (one,) = info(store)
    assert (one.node, one.timeline, one.fields, one.rows, one.patch_rows) == ("roof", "t", 4, 20_000, 1)
    assert one.span == (block.t[0], block.t[-1]) and one.chunks >= 2
    assert 10 < one.bytes_a_row < 80
