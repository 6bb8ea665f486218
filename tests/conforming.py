"""Schemathesis against a face: what its `/openapi.json` says is tried, and answers are held to it.

It has an environment of its own, build/schemathesis, which `make test` makes: it needs a newer idna than Crossbar lets in.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from twisted.internet.threads import deferToThread

PROGRAM = Path(__file__).parent.parent / "build" / "schemathesis" / "bin" / "schemathesis"


def conforms(address, *, examples=20, seed=1, header=None, certificate=None, without=None, but=None, contradicts=False):
    """Tries the face at `address` with so many requests an operation, the same ones each time; a failure shows them.

    A Deferred: the face may live in this process. `header` is `Name: value`, `certificate` the file of an authority,
    `without` a pattern of paths that have no end, `but` an operation that is a WebSocket: `GET /upstream`. Where parameters
    can contradict each other (a start after the end), a valid request may be refused all the same: `contradicts`.
    """
    return deferToThread(_run, address, examples, seed, header, certificate, without, but, contradicts)


def _run(address, examples, seed, header, certificate, without, but, contradicts):
    assert PROGRAM.exists(), f"{PROGRAM} is missing: `make build/schemathesis/.ready` makes it"
    command = [PROGRAM, "run", f"{address}/openapi.json", "--checks", "all", "--max-examples", str(examples)]
    command += ["--seed", str(seed), "--generation-database", "none", "--no-color", "--phases", "examples,coverage,fuzzing"]
    command += ["--header", header] if header else []
    command += ["--exclude-checks", "positive_data_acceptance"] if contradicts else []
    command += ["--exclude-path-regex", without] if without else []
    command += ["--tls-verify", str(certificate)] if certificate else []
    command += ["--exclude-name", but] if but else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=PROGRAM.parent)
    said = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, f"{said[-12_000:]}\n{done.stderr[-4_000:]}"
    return done.stdout
