"""The template of the router's configuration, as package data."""
