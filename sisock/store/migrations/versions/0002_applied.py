"""The second version: which blocks of an outbox were taken in, so that none is taken in twice and none passed over.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "applied",
        sa.Column("node", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("box", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drops the table."""
    op.drop_table("applied")
