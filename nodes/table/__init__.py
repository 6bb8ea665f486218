"""Any table as a node: CSV and Parquet files, SQLite and PostgreSQL."""

from sisock.nodes.table.opening import name_of, open_table

__all__ = ["name_of", "open_table"]
