"""The versions of the geoms' tables."""
