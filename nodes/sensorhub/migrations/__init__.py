"""The versions of the sensor hub's tables."""
