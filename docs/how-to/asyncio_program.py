"""Follows two nodes at once under asyncio, and asks for history meanwhile: `python asyncio_program.py SECONDS`.

    python docs/how-to/asyncio_program.py 10

Whatever is cancelled or runs out of time loses nothing: the next step takes what came meanwhile.
"""

import asyncio
import sys

import sisock.aio


async def follow(hub: sisock.aio.Hub, name: str) -> None:
    """Prints the newest row of each block."""
    async for block in hub[name].follow(start="-1m"):
        if len(block):
            field, values = next(iter(block.columns.items()))
            print(f"{name} {block.timeline}: {block.time[-1]} {field} {values[-1]}", flush=True)


async def main(seconds: float) -> None:
    async with await sisock.aio.connect() as hub:
        followed = [asyncio.create_task(follow(hub, node.name)) for node in await hub.nodes()]
        archive = await hub["apex_archive"].get(["apex_temperature"], start=1, max_points=1000)
        print(f"apex_archive had from {archive['apex_temperature'].min()} to {archive['apex_temperature'].max()} C", flush=True)
        await asyncio.wait(followed, timeout=seconds)
        for task in followed:
            task.cancel()
        await asyncio.gather(*followed, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
