"""What the telemetry shows to the world: one Twisted site with the WebSocket `/upstream` and the HTTP API."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import maybeDeferred

if TYPE_CHECKING:
    from sisock.nodes.telemetry.node import Telemetry

PORT = 8000
