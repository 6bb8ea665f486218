"""The fourth version: PostgreSQL's view of rows opens only the fields that are asked for.

The first one compared fields row by row, after all chunks of all fields were unnested, and unnested as a function in
FROM, which keeps its rows before it hands them on.

Revision ID: 0004
"""

from __future__ import annotations

from importlib import import_module

from alembic import op

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

# Chunks that no patch touches are unnested as they are; where patches lie over a chunk, and in what is not sealed yet, the
# last block that named the field counts.
_VIEW = """
CREATE VIEW rows AS
SELECT n.name AS node, l.name AS timeline, f.name AS field, p.t, p.value, p.text
FROM nodes n JOIN timelines l ON l.node = n.id JOIN fields f ON f.timeline = l.id
CROSS JOIN LATERAL (
    SELECT unnest(c.times) AS t,
           unnest(COALESCE(v.numbers, v.integers::double precision[], v.flags::int[]::double precision[])) AS value,
           unnest(v.texts) AS text
    FROM chunk_values v JOIN chunks c ON c.timeline = l.id AND c.ord = v.ord
    WHERE v.field = f.id AND NOT EXISTS (
        SELECT 1 FROM blocks b WHERE b.timeline = l.id AND b.patch = 1 AND b.first <= c.last AND b.last >= c.first)
    UNION ALL
    SELECT t, value, text FROM (
        SELECT DISTINCT ON (r.t) r.t, r.text,
               COALESCE(r.number, r.whole::double precision, r.flag::int::double precision) AS value
        FROM (
            SELECT 0::bigint AS seq, c.times, v.numbers, v.integers, v.flags, v.texts
            FROM chunk_values v JOIN chunks c ON c.timeline = l.id AND c.ord = v.ord
            WHERE v.field = f.id AND EXISTS (
                SELECT 1 FROM blocks b WHERE b.timeline = l.id AND b.patch = 1 AND b.first <= c.last AND b.last >= c.first)
            UNION ALL
            SELECT v.seq, b.times, v.numbers, v.integers, v.flags, v.texts
            FROM block_values v JOIN blocks b USING (timeline, patch, seq)
            WHERE v.timeline = l.id AND v.field = f.id
        ) AS loose, unnest(loose.times, loose.numbers, loose.integers, loose.flags, loose.texts)
            AS r(t, number, whole, flag, text)
        ORDER BY r.t, loose.seq DESC
    ) AS latest
) AS p
WHERE p.value IS NOT NULL OR p.text IS NOT NULL
"""


def upgrade() -> None:
    """Makes the view anew."""
    _replace(_VIEW)


def downgrade() -> None:
    """Brings the first view back."""
    _replace(import_module("sisock.store.migrations.versions.0001_first")._VIEW)


def _replace(view: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP VIEW rows")
        op.execute(view)
