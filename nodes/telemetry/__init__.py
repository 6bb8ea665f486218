"""The telemetry: robots report where they are."""

from sisock.nodes.telemetry.node import Telemetry

__all__ = ["Telemetry"]
