"""A real full disk: a small file system in a namespace of its own, so that nothing of it is left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest

CHILD = Path(__file__).with_name("full.py")
CHECKOUT = CHILD.parent.parent.parent
MOUNT = 'mount -t tmpfs -o size="$1",mode=755 tmpfs "$2" && shift 2 && exec "$@"'


def namespaces():
    """Ways to have mounts of one's own: as root, and as anybody where the kernel lets one."""
    return [["unshare", "-m"]] if os.geteuid() == 0 else [["unshare", "-r", "-m"]]


@pytest.fixture
def folder():
    made = Path(mkdtemp(prefix="sisock-full-"))
    made.chmod(0o755)
    (made / "disk").mkdir()
    yield made
    shutil.rmtree(made)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("what", "size"), [("file", "12m"), ("outbox", "12m"), ("server", "40m")])
def test_a_full_disk_stops_appends_and_nothing_else(folder, what, size):
    if what == "server" and os.geteuid() != 0:
        pytest.skip("PostgreSQL does not start as the root of a namespace; the file and the outbox were tried")
    disk = folder / "disk"
    for namespace in namespaces():
        tried = subprocess.run(
            [*namespace, "sh", "-c", MOUNT, "sh", size, str(disk), "true"], capture_output=True, text=True, check=False
        )
        if tried.returncode == 0:
            break
    else:
        # A shared memory of a container is small, and a real file system of its own.
        disk = small_shared_memory()
        namespace = []
    command = [sys.executable, str(CHILD), what, str(disk)]
    if namespace:
        command = [*namespace, "sh", "-c", MOUNT, "sh", size, str(disk), *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=280, check=False)
    assert (done.returncode, done.stdout[-3:]) == (0, "ok\n"), done.stdout + done.stderr


def small_shared_memory():
    """A folder in /dev/shm where that is small enough to be filled."""
    room = os.statvfs("/dev/shm")
    if room.f_bavail * room.f_bsize > 256 << 20:
        pytest.fail("no disk can be made that could be filled: neither `unshare -m` nor a small /dev/shm is there")
    return Path(mkdtemp(prefix="sisock-full-", dir="/dev/shm"))
