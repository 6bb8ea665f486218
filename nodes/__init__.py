"""The built-in data nodes, one folder each. They use the same door as anybody's: entry points in the group `sisock.nodes`."""
