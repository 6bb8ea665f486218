"""The versions, one a file."""
