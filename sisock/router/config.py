"""The router's configuration: the template `.crossbar/config.json` with this site's values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sisock import uris
from sisock.credentials import METHODS
from sisock.session import MAX_MESSAGE
from sisock.uris import REALM

_GONE = object()


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where the router listens. `ocs_port` is None while that transport is off; `certificate` None without TLS."""

    host: str
    port: int
    socket: Path
    realm: str = REALM
    ocs_port: int | None = None
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()

    @property
    def origins(self) -> list[str]:
        """The origins of pages that may open a WebSocket: those that this router itself serves.

        In the form in which Autobahn compares them: small letters, and no brackets around an address.
        """
        scheme = "https" if self.certificate else "http"
        hosts = dict.fromkeys(["localhost", "127.0.0.1", "::1", *(name.strip("[]").lower() for name in self.names)])
        return [f"{scheme}://{host}:{self.port}" for host in hosts]


def render(listeners: Listeners, home: Path, page: Path) -> str:
    """Text of Crossbar's config.json: every `$NAME` has its value, and what is switched off is gone."""
    tls = listeners.certificate and {"certificate": str(listeners.certificate), "key": str(listeners.key)}
    values: dict[str, Any] = {
        "REALM": listeners.realm,
        "HOME": str(home),
        "AUTH": {method: _dynamic(listeners.realm) for method in METHODS},
        "PAGE": str(page),
        "HOST": listeners.host,
        "PORT": listeners.port,
        "TLS": tls or _GONE,
        "ORIGINS": listeners.origins,
        "SOCKET": str(listeners.socket),
        "OCS_HOST": listeners.host,
        "OCS_PORT": listeners.ocs_port or _GONE,
        "MAX_MESSAGE": MAX_MESSAGE,
    }
    config = _filled(json.loads(template()), values)
    worker = config["workers"][0]
    worker["transports"] = [t for t in worker["transports"] if "path" in t["endpoint"] or "port" in t["endpoint"]]
    return json.dumps(config, indent=2) + "\n"


def _dynamic(realm: str) -> dict[str, str]:
    return {"type": "dynamic", "authenticator": uris.AUTHENTICATE, "authenticator-realm": realm}


def template() -> str:
    """The template as it is shipped."""
    return files("sisock.crossbar").joinpath("config.json").read_text()


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(part, dict):
        filled = {key: _filled(value, values) for key, value in part.items()}
        return {key: value for key, value in filled.items() if value is not _GONE}
    if isinstance(part, list):
        return [_filled(value, values) for value in part]
    if isinstance(part, str) and part.startswith("$"):
        return values[part[1:]]
    return part
