"""The door of the node: what was asked becomes a node of files or of a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sisock.home import Home
from sisock.node import DataNode
from sisock.nodes.table.asked import Asked


def name_of(source: str | None, describe: Path | None = None, **given: Any) -> str:
    """What the node of a source is called, without a look at the source."""
    return Asked.of(source, describe, **given).node


def open_table(source: str | None, describe: Path | None = None, *, home: Home | None = None, **given: Any) -> DataNode:
    """The node of a file, a folder, or a database's table; SetupError says what is wrong with it.

    `given` are the fields of Asked; what is None is taken from the description, or read off the source. The node's
    `found` tells what is there.
    """
    asked = Asked.of(source, describe, **given)
    if asked.is_database:
        from sisock.nodes.table.database import DatabaseTable

        return DatabaseTable(asked, home=home)
    from sisock.nodes.table.files import FileTable

    return FileTable(asked, home=home)
