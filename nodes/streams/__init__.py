"""Site streams: what producers send reaches all who subscribe to a site."""

from sisock.nodes.streams.node import Streams
from sisock.nodes.streams.outlet import Outlet

__all__ = ["Outlet", "Streams"]
