"""The first version: nodes, timelines, fields, blocks, chunks, the pyramid, revisions, and PostgreSQL's view of rows.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _numbers(*names: str, null: bool = False) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.BigInteger, nullable=null) for name in names]


def _part(*names: str) -> list[sa.Column[object]]:
    """Columns of a key."""
    kinds = {"patch": sa.SmallInteger, "level": sa.SmallInteger}
    return [sa.Column(name, kinds.get(name, sa.BigInteger), primary_key=True, autoincrement=False) for name in names]


def _arrays() -> list[sa.Column[object]]:
    kinds = {"numbers": sa.Double, "integers": sa.BigInteger, "flags": sa.Boolean, "texts": sa.Text}
    return [*(sa.Column(name, sa.ARRAY(kind)) for name, kind in kinds.items()), sa.Column("there", sa.LargeBinary)]


def _kind() -> sa.Column[object]:
    return sa.Column("kind", sa.Text, nullable=False)


def _rows() -> sa.Column[object]:
    return sa.Column("rows", sa.Integer, nullable=False)


def upgrade() -> None:
    """Makes the tables."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    times = sa.LargeBinary if sqlite else sa.ARRAY(sa.BigInteger)
    data = [sa.Column("data", sa.LargeBinary, nullable=False)] if sqlite else _arrays()
    op.create_table(
        "nodes",
        sa.Column("id", _KEY, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("epoch", sa.Text, nullable=False),
        *_numbers("lease"),
        sa.Column("holder", sa.Text),
    )
    op.create_table(
        "timelines",
        sa.Column("id", _KEY, primary_key=True),
        *_numbers("node"),
        sa.Column("name", sa.Text, nullable=False),
        *_numbers("seq", "mended"),
        *_numbers("newest", "sealed", "keep", "coarse_after", "coarse_step", null=True),
        sa.UniqueConstraint("node", "name"),
    )
    op.create_table(
        "fields",
        sa.Column("id", _KEY, primary_key=True),
        *_numbers("timeline"),
        sa.Column("name", sa.Text, nullable=False),
        _kind(),
        sa.UniqueConstraint("timeline", "name"),
    )
    op.create_table(
        "blocks",
        *_part("timeline", "patch", "seq"),
        *_numbers("seq_low", "first", "last"),
        _rows(),
        sa.Column("data" if sqlite else "times", times, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "chunks",
        *_part("timeline", "ord"),
        *_numbers("first", "last"),
        _rows(),
        *_numbers("seq_low", "seq", "coarse"),
        sa.Column("times", times, nullable=False),
        *([] if sqlite else [sa.Column("cells", sa.LargeBinary, nullable=False)]),
    )
    op.create_index("chunks_by_time", "chunks", ["timeline", "first", "last", "ord", "rows"])
    op.create_index("chunks_by_seq", "chunks", ["timeline", "seq"])
    op.create_table("chunk_values", *_part("field", "ord"), _kind(), *data)
    op.create_table("pyramid", *_part("field", "level", "ord"), sa.Column("items", sa.LargeBinary, nullable=False))
    op.create_table("revisions", *_part("timeline", "seq"), *_numbers("first", "last"))
    if not sqlite:
        op.create_table("block_values", *_part("timeline", "patch", "seq", "field"), _kind(), *_arrays())
        # Arrays of doubles do not shrink under the server's compression, and slices of plain ones are read alone.
        for table in ("chunk_values", "block_values"):
            for column in ("numbers", "integers", "flags"):
                op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE chunks ALTER COLUMN times SET STORAGE EXTERNAL")
        op.execute(_VIEW)


# Plain rows for anyone's SQL. Chunks that no patch touches are unnested as they are; where patches lie over a chunk, and
# in what is not sealed yet, the last block that named the field counts.
_VIEW = """
CREATE VIEW rows AS
WITH pieces AS (
    SELECT v.field, 0::bigint AS seq, c.times, v.numbers, v.integers, v.flags, v.texts,
           EXISTS (SELECT 1 FROM blocks p WHERE p.timeline = c.timeline AND p.patch = 1
                   AND p.first <= c.last AND p.last >= c.first) AS patched
    FROM chunk_values v JOIN fields f ON f.id = v.field JOIN chunks c ON c.timeline = f.timeline AND c.ord = v.ord
), loose AS (
    SELECT field, seq, times, numbers, integers, flags, texts FROM pieces WHERE patched
    UNION ALL
    SELECT v.field, v.seq, b.times, v.numbers, v.integers, v.flags, v.texts
    FROM block_values v JOIN blocks b USING (timeline, patch, seq)
), latest AS (
    SELECT DISTINCT ON (l.field, r.t) l.field, r.t, r.number, r.whole, r.flag, r.text
    FROM loose l, unnest(l.times, l.numbers, l.integers, l.flags, l.texts) AS r(t, number, whole, flag, text)
    ORDER BY l.field, r.t, l.seq DESC
), plain AS (
    SELECT p.field, r.t, r.number, r.whole, r.flag, r.text
    FROM pieces p, unnest(p.times, p.numbers, p.integers, p.flags, p.texts) AS r(t, number, whole, flag, text)
    WHERE NOT p.patched
    UNION ALL
    SELECT * FROM latest
)
SELECT n.name AS node, l.name AS timeline, f.name AS field, p.t,
       COALESCE(p.number, p.whole::double precision, p.flag::int::double precision) AS value, p.text
FROM plain p JOIN fields f ON f.id = p.field JOIN timelines l ON l.id = f.timeline JOIN nodes n ON n.id = l.node
WHERE p.number IS NOT NULL OR p.whole IS NOT NULL OR p.flag IS NOT NULL OR p.text IS NOT NULL
"""


def downgrade() -> None:
    """Drops the tables."""
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP VIEW rows")
        op.drop_table("block_values")
    for table in ("revisions", "pyramid", "chunk_values", "chunks", "blocks", "fields", "timelines", "nodes"):
        op.drop_table(table)
