# ruff: noqa: S608  the names in these statements are our own
"""What a store holds, in figures."""

from __future__ import annotations

from dataclasses import dataclass

from sisock.store.database import Tx
from sisock.store.lines import Line, load_all
from sisock.store.reading import span
from sisock.store.store import Store


@dataclass(frozen=True, slots=True)
class TimelineInfo:
    """A timeline in figures. `span` is in microseconds; `patch_rows` lie over others or between them."""

    node: str
    timeline: str
    fields: int
    rows: int
    patch_rows: int
    span: tuple[int, int] | None
    seq: int
    chunks: int
    bytes: int

    @property
    def bytes_a_row(self) -> float | None:
        """Bytes of times, values and summaries a row; None without rows."""
        rows = self.rows + self.patch_rows
        return self.bytes / rows if rows else None


def info(store: Store) -> list[TimelineInfo]:
    """All timelines of all nodes."""
    found: list[TimelineInfo] = []
    for node in store.nodes():
        with store.database.reading() as tx:
            row = tx.one("SELECT id FROM nodes WHERE name = ?", node)
            lines = load_all(tx, int(row[0])) if row else []
            found += [_of(tx, store, node, line) for line in lines]
    return found


def _of(tx: Tx, store: Store, node: str, line: Line) -> TimelineInfo:
    count = "SELECT count(*), COALESCE(sum(rows), 0) FROM"
    chunks = tx.known(f"{count} chunks WHERE timeline = ?", line.id)
    tail = tx.known(f"{count} blocks WHERE timeline = ? AND patch = 0", line.id)
    patches = tx.known(f"{count} blocks WHERE timeline = ? AND patch = 1", line.id)
    return TimelineInfo(
        node,
        line.name,
        len(line.kinds),
        int(chunks[1] + tail[1]),
        int(patches[1]),
        span(tx, line),
        line.seq,
        int(chunks[0]),
        _bytes(tx, store.database.engine, line),
    )


def _bytes(tx: Tx, engine: str, line: Line) -> int:
    fields = "SELECT id FROM fields WHERE timeline = ?"
    if engine == "sqlite":
        sizes = {
            "blocks": "length(data)",
            "chunks": "length(times)",
            "chunk_values": "length(data)",
            "pyramid": "length(items)",
        }
    else:
        sizes = dict.fromkeys(("blocks", "block_values", "chunks", "chunk_values", "pyramid"), "pg_column_size(x.*)")
    total = 0
    for table, size in sizes.items():
        where = "timeline = ?" if table in ("blocks", "block_values", "chunks") else f"field IN ({fields})"
        total += int(tx.known(f"SELECT COALESCE(sum({size}), 0) FROM {table} x WHERE {where}", line.id)[0])
    return total
