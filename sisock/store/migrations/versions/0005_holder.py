"""The fifth version: which instance of a node, and which start of it, took the lease last.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the columns; who took a lease before is not known."""
    op.add_column("nodes", sa.Column("instance", sa.Text))
    op.add_column("nodes", sa.Column("start", sa.BigInteger))


def downgrade() -> None:
    """Drops the columns."""
    op.drop_column("nodes", "start")
    op.drop_column("nodes", "instance")
