"""The command line `sisock`: one module a group of commands."""

from __future__ import annotations

import sys

import click

from sisock.cli import (
    author,
    completion,
    doctor,
    look,
    plot,
    read,
    record,
    replay,
    serve,
    simulate,
    site,
    store,
    tls,
    user,
    watch,
)
from sisock.cli.options import home_option
from sisock.cli.simulate import Installed
from sisock.errors import SisockError

# Commands of nodes: `sisock geom prepare`.
COMMANDS = "sisock.commands"


@click.group(
    cls=Installed, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="sisock")
@home_option
def sisock() -> None:
    """Discover and read every instrument of a site.

    `sisock up` brings a site up. `sisock ls` lists its data nodes, `sisock get NODE FIELD` reads one,
    `sisock watch NODE` shows one as it moves.
    """


for command in (
    site.up,
    site.run,
    serve.serve,
    site.bridge,
    read.ls,
    read.fields,
    read.get,
    watch.watch,
    look.last,
    look.gaps,
    plot.plot,
    record.record,
    replay.replay,
    replay.recording,
    doctor.doctor,
    completion.completion,
    author.new_node,
    store.store,
    simulate.simulate,
    user.user,
    tls.tls,
):
    sisock.add_command(command)


def main() -> None:
    """The program: an error of sisock's is one line that says what to do, and exit status 1."""
    try:
        sisock(prog_name="sisock")
    except SisockError as error:
        click.echo(f"sisock: {error}", err=True)
        sys.exit(1)
