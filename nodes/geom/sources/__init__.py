"""Sources: what turns inputs into shapes. Each is one function, found by the entry point `sisock.geoms`."""
