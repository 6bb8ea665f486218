"""The first version: sensors, raw readings with their ids, and the present values.

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
    """Makes the tables. Times are whole microseconds since 1970; `origin` tells a reading that comes twice."""
    node, sensor = sa.Column("node", sa.Text, primary_key=True), sa.Column("sensor", sa.Text, primary_key=True)
    op.create_table("sensorhub_sensors", node, sensor, sa.Column("since", sa.BigInteger, nullable=False))
    op.create_table(
        "sensorhub_readings",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("sensor", sa.Text, nullable=False),
        sa.Column("t", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        # Its key is the table: a third less to write.
        sqlite_with_rowid=False,
    )
    op.create_index("sensorhub_readings_sensor", "sensorhub_readings", ["node", "sensor", "id"])
    op.create_table(
        "sensorhub_current",
        sa.Column("node", sa.Text, primary_key=True),
        sa.Column("sensor", sa.Text, primary_key=True),
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("t", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drops the tables."""
    op.drop_table("sensorhub_current")
    op.drop_table("sensorhub_readings")
    op.drop_table("sensorhub_sensors")
