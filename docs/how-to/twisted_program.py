"""Follows a field in a Twisted program and reads its history by pages: `python twisted_program.py NODE FIELD ROWS`.

    python docs/how-to/twisted_program.py sensors cpu_load 3

`Consumer` is the client under all others: its methods are coroutines, times inside are whole microseconds, and rows are
`sisock.blocks.Block`. It ends after so many rows that came live.
"""

import sys

from twisted.internet.task import react

from sisock.asking import Question
from sisock.consumer import Consumer
from sisock.followed import Missing
from sisock.settings import Settings
from sisock.times import iso, to_seconds


async def main(reactor, node: str, field: str, rows: str) -> None:
    # The WebSocket, whose pings tell when the router is gone.
    consumer = await Consumer(Settings.read().consumer(web=True)).start()
    try:
        kept = 0

        def take(timeline, block):
            nonlocal kept
            kept += len(block)

        # All there is, page by page; `take` has each block as it comes.
        await consumer.read_all(node, Question([field], 1), take)
        print(f"{node} has {kept} rows of {field}.", flush=True)

        came = 0
        async for item in consumer.follow(node, [field], start=0.0):
            if isinstance(item, Missing):
                print(f"{item.timeline}: {item.reason}")
                continue
            # Where item.revises names ranges, these rows replace what came before.
            for t, value in zip(item.block.t.tolist(), item.block.columns[field].to_list(), strict=True):
                print(iso(to_seconds(t)), value, flush=True)
                came += 1
            if came >= int(rows):
                break
    finally:
        await consumer.stop()


if __name__ == "__main__":
    react(main, sys.argv[1:])
