"""Tables as nodes: a PostgreSQL server that can be killed, as the store's tests have it."""

from __future__ import annotations

import pytest

from sisock.home import Home
from sisock.nodes.table import open_table
from tests.store.conftest import own_server, postgres, server

__all__ = ["own_server", "postgres", "server"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SISOCK_HOME", str(tmp_path / "home"))
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def opened(home):
    """Opens tables, and closes them at the end."""
    nodes = []

    def make(source, **given):
        nodes.append(open_table(str(source), home=home, **given))
        return nodes[-1]

    yield make
    for node in nodes:
        node.stop()


def rows(node, *fields, start=1, end=None):
    """(t, value, ...) of fields that share a timeline."""
    reply = node.get_data(list(fields), start, end)
    if not reply["timeline"]:
        return []
    ((_, line),) = reply["timeline"].items()
    blank = [None] * len(line["t"])
    return list(zip(line["t"], *(reply["data"][field] or blank for field in fields), strict=True))
