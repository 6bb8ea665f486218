"""The first version: samples and their geoms (contract B4); the coordinates are in the store.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables. Times are whole microseconds since 1970; `columns` names the coordinates' fields in the store."""
    op.create_table(
        "geom_samples",
        # Numbers are never given twice: a client may still hold that of a sample that is gone.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
        sa.Column("environment_id", sa.Text, nullable=False),
        sa.Column("date", sa.Text, nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("end_time", sa.BigInteger, nullable=False),
        sa.Column("frames_per_second", sa.Double, nullable=False),
        sa.Column("num_frames", sa.BigInteger, nullable=False),
        sa.Column("frame_width", sa.BigInteger, nullable=False),
        sa.Column("frame_height", sa.BigInteger, nullable=False),
        sa.Column("source_id", sa.Text),
        sa.Column("source_type", sa.Text, nullable=False),
        sa.Column("source_name", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("inference_id", sa.Text),
        sa.Column("inference_name", sa.Text),
        sa.Column("inference_model", sa.Text),
        sa.Column("inference_version", sa.Text),
        sa.Column("devices", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("begun", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("geom_samples_day", "geom_samples", ["environment_id", "date", "status", "id"])
    op.create_table(
        "geom_geoms",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True),
        sa.Column("sample_id", sa.BigInteger, sa.ForeignKey("geom_samples.id"), nullable=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("object_id", sa.Text),
        sa.Column("object_type", sa.Text),
        sa.Column("object_name", sa.Text),
        sa.Column("columns", sa.Text, nullable=False),
        sa.UniqueConstraint("sample_id", "uuid"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drops the tables."""
    op.drop_table("geom_geoms")
    op.drop_table("geom_samples")
