"""Simulators: what an instrument sends, without the instrument. They are found by their entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

import click

SIMULATORS = "sisock.simulators"


class _Simulators(click.Group):
    """One command for each simulator that is installed, loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry.name for entry in entry_points(group=SIMULATORS))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group=SIMULATORS, name=cmd_name):
            command: click.Command = entry.load()
            return command
        return None


@click.command(cls=_Simulators)
def simulate() -> None:
    """Simulate instruments, for a demonstration, a test or a load: `sisock simulate robots`."""
