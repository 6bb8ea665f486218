"""The sensor hub: readings of sensors, from a Redis channel, a Redis stream and HTTP."""

from sisock.nodes.sensorhub.node import SensorHub

__all__ = ["SensorHub"]
