"""The hub's own health as a data node."""

from sisock.nodes.hub.node import HubHealth

__all__ = ["HubHealth"]
