"""Live feeds of an observatory: what its agents publish, kept and shown as a data node."""

from sisock.nodes.ocs_feed.node import OcsFeed

__all__ = ["OcsFeed"]
