"""The command `tls`: a site's own authority and the certificates of its listeners."""

from __future__ import annotations

import json
import time

import click

from sisock.certificates import Certificates, Seen
from sisock.cli.options import home_option, json_option, settings
from sisock.cli.tables import print_table

_name_option = click.option(
    "--name", "names", multiple=True, metavar="HOST", help="A name or address by which clients reach this machine."
)


@click.group()
def tls() -> None:
    """Make and renew the certificates that --tls serves, and show what to pin.

    Clients pin one file, the site's authority: <home>/.crossbar/server_cert.pem.
    """


@tls.command()
@_name_option
@home_option
def init(names: tuple[str, ...]) -> None:
    """Make the authority and a certificate for each listener; what is there already is kept, and gets new names."""
    home = settings().home
    home.make()
    certificates = Certificates(home.path)
    before = {seen.what: seen.fingerprint for seen in certificates.all()}
    for listener in ("router", "bridge", *certificates.listeners()):
        certificates.ensure(listener, names)
    made = [seen.what for seen in certificates.all() if before.get(seen.what) != seen.fingerprint]
    click.echo(f"made: {', '.join(made)}" if made else "all certificates are there already; `sisock tls show` lists them")
    click.echo(f"clients pin {certificates.authority}")


@tls.command()
@click.option("--authority", is_flag=True, help="Make a new authority, too. Every client has to pin it anew.")
@_name_option
@home_option
def renew(authority: bool, names: tuple[str, ...]) -> None:
    """Make the certificates anew, with the names that they have. They count from the next start of the site on."""
    home = settings().home
    home.make()
    certificates = Certificates(home.path)
    if authority:
        certificates.renew_authority()
    there = {seen.what: seen.names for seen in certificates.all()}
    for listener in sorted({"router", "bridge", *certificates.listeners()}):
        certificates.renew(listener, (*there.get(listener, ()), *names))
    click.echo("the certificates are new; restart `sisock up --tls`")
    if authority:
        click.echo(f"every client pins {certificates.authority} anew")


@tls.command()
@home_option
@json_option
def show(as_json: bool) -> None:
    """Show the certificates: for which names, until when, and their fingerprints."""
    found = list(Certificates(settings().home.path).all())
    if as_json:
        click.echo(json.dumps([_as_json(seen) for seen in found]))
    elif not found:
        click.echo("there are none; `sisock tls init` makes them", err=True)
    else:
        rows = [(one.what, _day(one), ", ".join(one.names), one.fingerprint, str(one.path)) for one in found]
        print_table(("certificate", "until", "names", "SHA-256", "file"), rows)


def _as_json(seen: Seen) -> dict[str, object]:
    return {
        "certificate": seen.what,
        "file": str(seen.path),
        "names": seen.names,
        "ends": seen.ends.timestamp(),
        "fingerprint": seen.fingerprint,
    }


def _day(seen: Seen) -> str:
    stamp = time.strftime("%Y-%m-%d", seen.ends.utctimetuple())
    return f"{stamp}, soon" if seen.ends_soon else stamp
