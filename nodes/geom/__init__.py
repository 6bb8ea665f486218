"""The geoms: moving shapes over a video."""

from sisock.nodes.geom.node import Geoms

__all__ = ["Geoms"]
