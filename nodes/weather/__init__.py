"""The weather archive: a folder of `<field>.dat` files as a data node."""

from sisock.nodes.weather.node import Weather

__all__ = ["Weather"]
