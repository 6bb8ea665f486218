"""Schemathesis against a face: what its `/openapi.json` says is tried, and answers are held to it.

It has an environment of its own, build/schemathesis, which `make test` makes: it needs a newer idna than Crossbar lets in.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.internet.threads import deferToThread

PROGRAM = Path(__file__).parent.parent / "build" / "schemathesis" / "bin" / "schemathesis"


def conforms(address, *, examples=20, seed=1, header=None, certificate=None):
    """Tries the face at `address` with so many requests an operation, the same ones each time; a failure shows them.

    A Deferred: the face may live in this process. `header` is `Name: value`, `certificate` the file of an authority.
    """
    return deferToThread(_run, address, examples, seed, header, certificate)


def _run(address, examples, seed, header, certificate):
    assert PROGRAM.exists(), f"{PROGRAM} is missing: `make build/schemathesis/.ready` makes it"
    command = [PROGRAM, "run", f"{address}/openapi.json", "--checks", "all", "--max-examples", str(examples)]
    command += ["--seed", str(seed), "--generation-database", "none", "--no-color", "--phases", "examples,coverage,fuzzing"]
    command += ["--header", header] if header else []
    command += ["--tls-verify", str(certificate)] if certificate else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=PROGRAM.parent)
    assert done.returncode == 0, f"{done.stdout[-12_000:]}\n{done.stderr[-4_000:]}"
    return done.stdout
