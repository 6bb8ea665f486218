"""Answers in Arrow: whole, or message by message to a caller who takes them as they come.

A whole answer is {"arrow": {timeline: bytes of an IPC stream}, "timeline", "position", ...}. Taken as they come, the
messages are {"timeline", "arrow"} each, and the answer that ends them has no "arrow".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sisock.blocks import Block
from sisock.errors import Busy, TooMuch
from sisock.requests import (
    BATCH_BYTES,
    MAX_ARROW,
    MAX_CALL,
    DataRequest,
    Reading,
    Rows,
    reached,
    rows_with_values,
    what_was_done,
)

# Called with one message of a timeline's stream, in the thread that reads.
Send = Callable[[dict[str, Any]], None]


def answer(
    request: DataRequest, timelines: Iterable[Rows], send: Send | None = None, given_up: threading.Event | None = None
) -> dict[str, Any]:
    """The answer in Arrow; with `send` its messages went there. TooMuch for more bytes than it or a call may hold.

    What was sent before TooMuch is whole and in order: a reader goes on behind the last row. It reads and encodes block
    by block, so it belongs into a thread; `given_up` ends it early.
    """
    whole: dict[str, bytes] = {}
    lines: dict[str, dict[str, Any]] = {}
    readings: dict[str, Reading] = {}
    downsampled: dict[str, dict[str, Any]] = {}
    sent = 0
    limit = MAX_ARROW if send is None else MAX_CALL + BATCH_BYTES
    for rows in timelines:
        readings[rows.timeline] = rows.about
        messages: list[bytes] = []
        count = 0
        for message, length in _messages(rows):
            if given_up is not None and given_up.is_set():
                return {}
            sent += len(message)
            count += length
            if sent > limit:
                raise TooMuch("That is more than one call may bring. Ask for a shorter time, or with max_points.")
            if send is None:
                messages.append(message)
            else:
                send({"timeline": rows.timeline, "arrow": message})
        if not count:
            if rows.about.last is not None and rows.about.rows:
                downsampled[rows.timeline] = what_was_done(request, rows.about, rows.about.rows, 0)
            continue
        lines[rows.timeline] = {"finalized_until": rows.about.finalized_until}
        if send is None:
            whole[rows.timeline] = b"".join(messages)
        if rows.about.rows is not None and count < rows.about.rows:
            downsampled[rows.timeline] = what_was_done(request, rows.about, rows.about.rows, count)
    reply: dict[str, Any] = {"timeline": lines} | reached(request, readings)
    if send is None:
        reply["arrow"] = whole
    if downsampled:
        reply["downsampled"] = downsampled
    return reply


def _messages(rows: Rows) -> Iterator[tuple[bytes, int]]:
    """The messages of a timeline's stream, and how many rows are in each; none where there are no rows."""
    # Its library takes 27 MB, which a node that nobody asks does not need.
    from sisock import arrow

    layout = None
    for block in rows.blocks:
        there = rows_with_values(block)
        if not len(there):
            continue
        if layout is None:
            layout = arrow.schema(rows.timeline, there.columns, rows.fields)
            yield arrow.message(layout), 0
        elif arrow.schema(rows.timeline, there.columns, rows.fields) != layout:
            raise Busy(f"a field of {rows.timeline} has just changed its type; ask again")
        for part in _parts(there):
            yield arrow.message(arrow.batch(part, layout)), len(part)


def _parts(block: Block) -> Iterator[Block]:
    """The block in parts of about BATCH_BYTES, all alike: a short one at the end would cost as much as a long one."""
    count = max(1, round(len(block) * 8 * (1 + len(block.columns)) / BATCH_BYTES))
    rows = -(-len(block) // count)
    for at in range(0, len(block), rows):
        yield block.take(slice(at, at + rows))
