"""Listening: where a node's face for HTTP listens, as the environment says, and that it is safe there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from sisock.errors import SetupError
from sisock.home import is_loopback
from sisock.rules import LOOPBACK, Network


@dataclass(frozen=True, slots=True)
class Listening:
    """An address to listen at: SISOCK_<NAME>_HOST and SISOCK_<NAME>_PORT, where 0 is any free port."""

    host: str
    port: int

    @classmethod
    def of(cls, name: str, port: int, environ: Mapping[str, str] = os.environ) -> Listening:
        """The address that the environment names; this machine alone at `port` by default.

        SetupError for a port that is none, and beyond this machine, where no TLS protects it, unless
        SISOCK_<NAME>_INSECURE=1 says that the network is trusted.
        """
        prefix = f"SISOCK_{name.upper()}"
        host, text = environ.get(f"{prefix}_HOST") or "127.0.0.1", environ.get(f"{prefix}_PORT") or str(port)
        if not text.isdecimal() or len(text) > 5 or int(text) > 65535:
            raise SetupError(f"{prefix}_PORT={text} in the environment is no port number")
        if not is_loopback(host) and environ.get(f"{prefix}_INSECURE", "0") in ("", "0"):
            raise SetupError(
                f"{name} on {host} would send tokens and data in the clear. Put it behind a TLS proxy on this machine, "
                f"or set {prefix}_INSECURE=1 if the network is trusted."
            )
        return cls(host, int(text))

    @property
    def open_to(self) -> tuple[Network, ...]:
        """Who may come without a token where access.toml does not say: this machine, if it listens there alone."""
        return LOOPBACK if is_loopback(self.host) else ()
