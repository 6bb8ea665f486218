"""The host's own sensors as a data node."""

from sisock.nodes.sensors.node import Sensors

__all__ = ["Sensors"]
