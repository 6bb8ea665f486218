"""Prints what an instrument measures, as it comes, until Ctrl-C: `python watch.py NODE FIELD`.

    python docs/how-to/watch.py sensors cpu_load

It begins a minute ago. A router or a node that is restarted meanwhile makes no hole; what cannot be had is named.
"""

import sys

import sisock


def main(node: str, field: str) -> None:
    with sisock.connect() as hub:
        for block in hub[node].follow([field], start="-1m"):
            if isinstance(block, sisock.Gap):
                print(f"may be missing from {block.start} to {block.end}: {block.reason}")
            for start, end in block.revises:
                print(f"replaced from {start} to {end}:")
            for time, value in zip(block.time, block[field], strict=True):
                print(time, value, block.fields[field].units, flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except sisock.SisockError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
