"""A follower in a process of its own: it follows until it is told to stop, and writes what it has.

`python -m tests.chaos.follower URL AUTHID SECRET REALM FOLDER`: what it has goes to FOLDER/rows.npz whenever FOLDER/ask
appears, with how far it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from autobahn.twisted.util import sleep
from twisted.internet.defer import Deferred

from sisock.consumer import Consumer
from sisock.session import Access
from tests.chaos.table import Table


async def main(url, authid, secret, realm, folder):
    consumer = Consumer(Access(url, authid, secret, realm))
    consumer.connect()
    table = Table()
    follower = consumer.follow("chaos", ["n", "version"], start=1.0)
    ask, rows = Path(folder) / "ask", Path(folder) / "rows.npz"
    while True:
        if follower._error is not None:
            raise follower._error
        for item in follower.ready():
            table.take(item)
        if ask.exists():
            states = [line.splice.state.value for line in follower._lines.values()]
            print(
                len(table.block), "rows", consumer.connected, consumer._connection.trouble, states, follower.problem, flush=True
            )
            block = table.block
            numbers = {name: block.columns[name].numbers() for name in block.columns}
            made = rows.with_name("making.npz")
            np.savez(made, t=block.t, gaps=len(table.gaps), **numbers)
            made.rename(rows)
            ask.unlink()
        await sleep(0.05)


if __name__ == "__main__":
    from twisted.internet import reactor

    Deferred.fromCoroutine(main(*sys.argv[1:])).addErrback(lambda failure: (failure.printTraceback(), reactor.stop()))
    reactor.run()
