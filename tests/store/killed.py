"""A child that writes for ever and says of each act what it is about to do, and that it was acknowledged."""

import json
import random
import sys

import numpy as np

from sisock.blocks import Block, Column
from sisock.store import Store, keeping, mending

KEEP = 6000


def rows(t, version):
    t = np.array(t, np.int64)
    return Block(t, {"x": Column(t + version / 1000), "n": Column(np.full(len(t), version))})


def acts(seed, newest):
    choice = random.Random(seed)
    version = seed * 1000
    while True:
        version += 1
        kind = choice.choices(["append", "late", "delete", "compact", "retain"], [60, 20, 3, 3, 2])[0]
        if kind == "append":
            count = choice.choice([1, 1, 1, 20, 300, 700])
            yield kind, [newest + 1, newest + 1 + count, version]
            newest += count
        elif kind == "late":
            low = max(0, newest - choice.randrange(4000))
            yield kind, [low, low + choice.choice([1, 1, 5, 60]), version]
            newest = max(newest, low + 60)
        elif kind == "delete":
            low = max(0, newest - choice.randrange(100, 5000))
            yield kind, [low, low + choice.randrange(1, 90), version]
        else:
            yield kind, []


def main():
    address, seed = sys.argv[1], int(sys.argv[2])
    # So that every act of keeping house comes often. Here alone: whoever imports this keeps what is usual.
    keeping.SEAL_ROWS = mending.SEAL_ROWS = 512
    keeping.MANY_SMALL = 8
    mending.MANY_PATCHES = 12
    with Store.open(address, pool=2) as store:
        history = store.node("roof")
        for kind, about in acts(seed, history.newest("t") or 0):
            print(json.dumps(["will", kind, about]), flush=True)
            if kind in ("append", "late"):
                history.append("t", rows(range(*about[:2]), about[2]), correct=True).result()
            elif kind == "delete":
                history.delete("t", *about[:2]).result()
            elif kind == "compact":
                history.compact("t").result()
            else:
                history.retain("t", keep=KEEP / 1e6).result()
            print(json.dumps(["done", kind, about]), flush=True)


if __name__ == "__main__":
    main()
