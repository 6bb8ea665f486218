"""Site streams: what producers send reaches all who subscribe to a site."""

from sisock.nodes.streams.node import Streams

__all__ = ["Streams"]
