"""Settings of the observatory's feeds, from the environment; `sisock run ocs_feed` takes them as options, too.

| name | option | what it sets | default |
|---|---|---|---|
| SISOCK_OCS_FEEDS | --feeds | the feeds, as TARGET.FEED with commas between; * is a pattern | `*.*` |
| SISOCK_OCS_FEED_URL | --feed-url | the observatory's router, ws:// or wss:// | our own, ws://localhost:8001/ws |
| SISOCK_OCS_FEED_REALM | --feed-realm | its realm | test_realm; at our own router, its realm |
| SISOCK_OCS_FEED_CERTIFICATE | --feed-certificate | the certificate to pin for wss:// | the system's authorities |
| SISOCK_OCS_KEEP | --keep | how long rows are kept in the store: 30d | for ever |
| TARGET, FEED, BUFFER_TIME | | as the old node had them: one feed, fields called by their channels alone; seconds | |
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sisock.errors import SetupError
from sisock.home import Home
from sisock.nodes.ocs_feed.source import Feed, feeds_of
from sisock.retention import keep_of
from sisock.session import Access
from sisock.uris import REALM

OPTIONS = {
    "feeds": "SISOCK_OCS_FEEDS",
    "feed-url": "SISOCK_OCS_FEED_URL",
    "feed-realm": "SISOCK_OCS_FEED_REALM",
    "feed-certificate": "SISOCK_OCS_FEED_CERTIFICATE",
    "keep": "SISOCK_OCS_KEEP",
}
OBSERVATORY_REALM = "test_realm"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment names; `plain` are names of fields without target and feed, `keep` is in seconds."""

    feeds: tuple[Feed, ...]
    access: Access
    plain: bool = False
    keep: float | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """The settings that the environment names; SetupError for what is not understood."""
        feeds, plain = feeds_of(environ.get("SISOCK_OCS_FEEDS") or ""), False
        target, feed = environ.get("TARGET"), environ.get("FEED")
        if not feeds and target and feed:
            feeds, plain = (Feed.of(f"{target}.{feed}"),), True
        return cls(
            feeds or (Feed("*", "*"),),
            _access(environ),
            plain and not feeds[0].is_pattern,
            keep_of(environ, "SISOCK_OCS_KEEP", "BUFFER_TIME"),
        )


def _access(environ: Mapping[str, str]) -> Access:
    url, realm = environ.get("SISOCK_OCS_FEED_URL"), environ.get("SISOCK_OCS_FEED_REALM")
    certificate = environ.get("SISOCK_OCS_FEED_CERTIFICATE")
    if url:
        if not url.startswith(("ws://", "wss://")):
            raise SetupError(f"SISOCK_OCS_FEED_URL={url} is no address of a router: it begins with ws:// or wss://")
        pinned = Path(certificate).expanduser() if certificate else None
        return Access(url, "", realm=realm or OBSERVATORY_REALM, certificate=pinned)
    home = Home.default(environ)
    run = home.run()
    port = _plain_port(home) if run else None
    port = port or environ.get("CROSSBAR_OCS_PORT") or "8001"
    return Access(f"ws://localhost:{port}/ws", "", realm=realm or (run.realm if run else REALM))


def _plain_port(home: Home) -> str | None:
    """Where the site that runs here has its plain transport, which may be any free port."""
    try:
        told = json.loads((home.crossbar / "config.json").read_text())
        transports = [one for worker in told["workers"] for one in worker["transports"]]
        return next((str(one["endpoint"]["port"]) for one in transports if one.get("id") == "plain"), None)
    except (OSError, ValueError, LookupError, TypeError):
        return None
