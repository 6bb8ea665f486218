"""The sixth version: up to which seq retention has deleted rows, which whoever was away that long is told.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; what was deleted before is not known."""
    op.add_column("timelines", sa.Column("dropped", sa.BigInteger))


def downgrade() -> None:
    """Drops the column."""
    op.drop_column("timelines", "dropped")
