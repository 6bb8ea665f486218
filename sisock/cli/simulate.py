"""Simulators: what an instrument sends, without the instrument. They are found by their entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import click

SIMULATORS = "sisock.simulators"


class Installed(click.Group):
    """A group whose commands are, beside its own, those that are installed under an entry point; loaded when they are used."""

    def __init__(self, *args: Any, entries: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return sorted({*super().list_commands(ctx), *(entry.name for entry in entry_points(group=self._entries))})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; its own go first."""
        own = super().get_command(ctx, cmd_name)
        for entry in () if own is not None else entry_points(group=self._entries, name=cmd_name):
            command: click.Command = entry.load()
            return command
        return own


@click.command(cls=Installed, entries=SIMULATORS)
def simulate() -> None:
    """Simulate instruments, for a demonstration, a test or a load: `sisock simulate robots`."""
