"""The tables, the same on both engines but for the columns that hold the data themselves.

SQLite keeps sealed columns as cells and unsealed blocks as bytes; PostgreSQL keeps both as arrays, so that anyone's
SQL can read them. Times are whole microseconds; chunks are ordered by `ord`, which ascends with time.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

# SQLite numbers rows itself only where the key is an INTEGER.
Key = BigInteger().with_variant(Integer(), "sqlite")


def _data(engine: str) -> list[Column[object]]:
    if engine == "sqlite":
        return [Column("data", LargeBinary, nullable=False)]
    return [
        Column("numbers", ARRAY(Double)),
        Column("integers", ARRAY(BigInteger)),
        Column("flags", ARRAY(Boolean)),
        Column("texts", ARRAY(Text)),
        Column("there", LargeBinary),  # a bit a row where some are null
    ]


def _times(engine: str) -> Column[object]:
    return Column("times", LargeBinary if engine == "sqlite" else ARRAY(BigInteger), nullable=False)


def _cells(engine: str) -> list[Column[object]]:
    """PostgreSQL has a chunk's times as cells too: the array is for SQL, and takes seven times as long to read."""
    return [] if engine == "sqlite" else [Column("cells", LargeBinary, nullable=False)]


def tables(engine: str) -> MetaData:
    """The schema on `sqlite` or `postgresql`."""
    meta = MetaData()
    Table(
        "nodes",
        meta,
        Column("id", Key, primary_key=True),
        Column("name", Text, nullable=False, unique=True),
        Column("epoch", Text, nullable=False),
        Column("lease", BigInteger, nullable=False),
        Column("holder", Text),  # the host and the process that took the lease last, until it is released
        Column("instance", Text),  # and, where that is a node at its site, whose process it is
        Column("start", BigInteger),
    )
    Table(
        "timelines",
        meta,
        Column("id", Key, primary_key=True),
        Column("node", BigInteger, nullable=False),
        Column("name", Text, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("newest", BigInteger),
        Column("sealed", BigInteger),  # rows up to here come as patches
        Column("mended", BigInteger, nullable=False),  # how often chunks that were there changed or went
        Column("keep", BigInteger),  # retention: how long rows are kept
        Column("coarse_after", BigInteger),  # and after which time only
        Column("coarse_step", BigInteger),  # the extremes of each step are
        Column("dropped", BigInteger),  # the highest seq of what retention deleted
        UniqueConstraint("node", "name"),
    )
    Table(
        "fields",
        meta,
        Column("id", Key, primary_key=True),
        Column("timeline", BigInteger, nullable=False),
        Column("name", Text, nullable=False),
        Column("kind", Text, nullable=False),
        UniqueConstraint("timeline", "name"),
    )
    Table(
        "blocks",
        meta,
        Column("timeline", BigInteger, primary_key=True, autoincrement=False),
        Column("patch", SmallInteger, primary_key=True, autoincrement=False),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("seq_low", BigInteger, nullable=False),
        Column("first", BigInteger, nullable=False),
        Column("last", BigInteger, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("data", LargeBinary, nullable=False) if engine == "sqlite" else _times(engine),
        sqlite_with_rowid=False,
    )
    if engine == "postgresql":
        Table(
            "block_values",
            meta,
            Column("timeline", BigInteger, primary_key=True, autoincrement=False),
            Column("patch", SmallInteger, primary_key=True, autoincrement=False),
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            Column("field", BigInteger, primary_key=True, autoincrement=False),
            Column("kind", Text, nullable=False),
            *_data(engine),
        )
    Table(
        "chunks",
        meta,
        Column("timeline", BigInteger, primary_key=True, autoincrement=False),
        Column("ord", BigInteger, primary_key=True, autoincrement=False),
        Column("first", BigInteger, nullable=False),
        Column("last", BigInteger, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("seq_low", BigInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("coarse", BigInteger, nullable=False),
        _times(engine),
        *_cells(engine),
        Index("chunks_by_time", "timeline", "first", "last", "ord", "rows"),
        Index("chunks_by_seq", "timeline", "seq"),
    )
    Table(
        "chunk_values",
        meta,
        Column("field", BigInteger, primary_key=True, autoincrement=False),
        Column("ord", BigInteger, primary_key=True, autoincrement=False),
        Column("kind", Text, nullable=False),
        *_data(engine),
    )
    Table(
        "pyramid",
        meta,
        Column("field", BigInteger, primary_key=True, autoincrement=False),
        Column("level", SmallInteger, primary_key=True, autoincrement=False),
        Column("ord", BigInteger, primary_key=True, autoincrement=False),
        Column("items", LargeBinary, nullable=False),
    )
    Table(
        "revisions",
        meta,
        Column("timeline", BigInteger, primary_key=True, autoincrement=False),
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("first", BigInteger, nullable=False),
        Column("last", BigInteger, nullable=False),
    )
    Table(
        "applied",
        meta,
        Column("node", BigInteger, primary_key=True, autoincrement=False),
        Column("box", Text, primary_key=True),
        Column("number", BigInteger, nullable=False),  # the last block of this outbox that was taken in
    )
    return meta
