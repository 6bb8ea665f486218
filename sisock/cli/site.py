"""Commands that run something: the whole site, one node, the bridge."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from sisock.cli.completion import installed_nodes
from sisock.cli.options import home_option, json_option, settings
from sisock.errors import SetupError, Superseded
from sisock.home import Home, is_loopback
from sisock.settings import BRIDGE_PORT, OCS_PORT, PORT
from sisock.uris import REALM
from sisock.users import BRIDGE


@click.command()
@home_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where the router listens. Beyond this machine it needs --tls."
)
@click.option("--port", type=click.IntRange(1, 65535), help=f"The router's port.  [$CROSSBAR_TLS_PORT, or {PORT}]")
@click.option("--bridge-port", type=click.IntRange(1, 65535), help=f"The bridge's port.  [$PORT, or {BRIDGE_PORT}]")
@click.option(
    "--bridge-host",
    "bridge_at",
    help="Where the bridge listens. Beyond this machine it needs --tls, and whoever asks it a token.  [this machine]",
)
@click.option(
    "--ocs", is_flag=True, help="Open the plain transport, where anybody may publish and subscribe under `observatory.`."
)
@click.option("--ocs-port", type=click.IntRange(1, 65535), help=f"Its port.  [$CROSSBAR_OCS_PORT, or {OCS_PORT}]")
@click.option("--ports", type=click.Choice(["auto"]), help="`auto` takes a free port for every listener that is not given one.")
@click.option("--nodes", default="weather,sensors,hub", show_default=True, help="The nodes to run: names, or module:Class.")
@click.option(
    "--serve",
    "served",
    multiple=True,
    type=click.Path(),
    metavar="SOURCE",
    help="A table to serve beside the nodes, as `sisock serve SOURCE` does: a file, a folder, or a .toml that names a source.",
)
@click.option(
    "--tls", is_flag=True, help="Serve wss and https, with certificates of the site's own authority (see `sisock tls`)."
)
@click.option("--realm", default=REALM, show_default=True, help="The WAMP realm.")
@click.option(
    "--insecure", multiple=True, metavar="LISTENER", help="Let ws, ocs or bridge listen beyond this machine without TLS."
)
@click.option("--open/--no-open", "opens", default=None, help="Open the page in a browser.  [if there is a desktop]")
@json_option
def up(
    *,
    ports: str | None,
    nodes: str,
    served: tuple[str, ...],
    insecure: tuple[str, ...],
    opens: bool | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Bring a whole site up: the router with the hub, the nodes, and the bridge for Grafana.

    It prints one line when all of it is ready; <home>/run.json then tells programs where it is. Ctrl-C stops it and
    leaves nothing behind. Tables that <home>/tables/*.toml describe are served each time, like those of --serve.
    """
    from sisock.cli.reacting import log_to_stderr, serve
    from sisock.plugins import find_node
    from sisock.site.up import Plan, Site, has_desktop

    chosen = tuple(dict.fromkeys(name for name in nodes.split(",") if name))
    names = {node: find_node(node).name for node in chosen}
    environment = settings()
    tables = _tables(environment.home, served)
    names.update({part: part for part in tables})
    if clash := {"router", "bridge", *chosen, *(names[node] for node in chosen)}.intersection(tables):
        raise SetupError(f"two parts would be called {', '.join(sorted(clash))}. Give a table another name in its .toml.")
    plan = Plan(environment, auto_ports=ports == "auto", nodes=chosen, tables=tables, insecure=insecure, names=names, **options)
    with plan.home.lock():
        log_to_stderr()
        site = Site(plan)
        watching = LoopingCall(_warn, site)

        async def start() -> None:
            site.start()
            for node in await site.wait_until_ready():
                click.echo(
                    f"sisock: {node} is not there yet; see {plan.home.logs / node}.log. The site goes on without it.", err=True
                )
            _warn(site)
            watching.start(86_400, now=False).addErrback(lambda failure: logging.error("%s", failure.value))
            run = site.run_file()
            if as_json:
                click.echo(json.dumps({"ready": True, "home": str(plan.home.path), "run": str(plan.home.path / "run.json")}))
            else:
                bridge = f", bridge {run.bridge}" if run.bridge else ""
                listed = ", ".join(names.values())
                page = site.router.page_with_token
                click.echo(f"sisock is ready: page {page}, router {run.ws}{bridge}, nodes {listed}. Ctrl-C stops it.")
                if has_desktop() if opens is None else opens:
                    open_page(site)

        serve(start, site.stop)


def _tables(home: Home, served: tuple[str, ...]) -> dict[str, str]:
    """The tables to serve, by the names of their nodes."""
    from sisock.plugins import find_tables

    always = [str(path) for path in sorted((home.path / "tables").glob("*.toml"))]
    tables: dict[str, str] = {}
    for source in (*always, *served):
        name = find_tables().name_of(source)
        if tables.setdefault(name, source) != source:
            raise SetupError(f"{tables[name]} and {source} would both be called {name}. Give one another name in its .toml.")
    return tables


def open_page(site: Any) -> None:
    """Opens the page in a browser by way of a file: what stands in a command line everybody on the machine can read."""
    click.launch(site.write_link().as_uri())


def _warn(site: Any) -> None:
    for warning in site.warnings():
        click.echo(f"sisock: {warning}", err=True)


_SCRIPT = """Run a program of the old kind (a sisock.base.DataNodeServer under Autobahn's ApplicationRunner) in the site's
folder, and start it again whenever it ends or loses its connection."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("node", required=False, shell_complete=installed_nodes)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--script", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE", help=_SCRIPT)
@click.option("--reload", "reloads", is_flag=True, help="Start the node again whenever a Python file in its folder changes.")
@home_option
def run(node: str | None, options: tuple[str, ...], script: Path | None, reloads: bool) -> None:
    """Run one data node: NODE is the name of an installed one, or module:Class.

    It joins the site in the home, or the router that CROSSBAR_HOST names, and joins again whenever it is lost.
    Some nodes take OPTIONS of their own, which their README tells:

    \b
    sisock run ocs_feed --feed-url ws://ocs:8001/ws --feeds 'thermo.*'
    """  # noqa: D301
    if (node is None) == (script is None):
        raise click.UsageError("name one NODE, or a program with --script FILE")
    if options:
        _set_options(node, options)
    if script is not None:
        if reloads:
            raise click.UsageError("--reload goes with a NODE, not with --script")
        _run_script(script.absolute())
    elif reloads:
        from sisock.cli.author import run_reloading

        run_reloading(str(node), {**os.environ, "SISOCK_HOME": str(settings().home.path)})
    else:
        from sisock.cli.running import run_node
        from sisock.plugins import find_node

        # A node finds its own files in the home.
        os.environ["SISOCK_HOME"] = str(settings().home.path)
        run_node(find_node(str(node))())


def _set_options(node: str | None, options: tuple[str, ...]) -> None:
    """Sets the variables of the environment that a node's own options stand for."""
    from sisock.plugins import find_node

    known = find_node(node).options if node is not None else {}
    there = f"{node} takes {', '.join(f'--{name}' for name in known)}." if known else f"{node} takes none of its own."
    left = list(options)
    while left:
        name, equals, value = left.pop(0).partition("=")
        variable = known.get(name.removeprefix("--")) if name.startswith("--") else None
        if variable is None:
            raise click.UsageError(f"No such option: {name}. {there}")
        if not equals and not left:
            raise click.UsageError(f"Option {name} needs a value.")
        os.environ[variable] = value if equals else left.pop(0)


def _run_script(script: Path) -> None:
    from sisock.cli.reacting import log_to_stderr, serve
    from sisock.site.script import SUPERSEDED
    from sisock.site.supervisor import EchoLogs, Supervisor

    home = settings().home
    home.make()
    log_to_stderr()
    ended: Deferred[None] = Deferred()

    def superseded(name: str) -> None:
        ended.errback(Superseded(f"{name}: a newer start of this node serves its name; this one leaves"))

    supervisor = Supervisor(EchoLogs(), final=SUPERSEDED, finished=superseded)
    environment = {**os.environ, "SISOCK_HOME": str(home.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sisock.site.script", str(script)]
    supervisor.add_part(script.stem, command, environment, home.path)

    async def start() -> Deferred[None]:
        supervisor.startService()
        return ended

    serve(start, supervisor.stop)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"The port.  [$PORT, or {BRIDGE_PORT}]")
@click.option("--tls", is_flag=True, help="Serve https, with a certificate of the site's own authority.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without TLS.")
@home_option
def bridge(host: str, port: int | None, tls: bool, insecure: bool) -> None:
    """Run the bridge: what dashboards read over HTTP (Grafana's SimpleJson dialect).

    On this machine it lets in whoever has no token, as `public`; elsewhere only with one, unless access.toml says so.
    """
    from sisock.certificates import Certificates
    from sisock.cli.reacting import log_to_stderr, serve
    from sisock.plugins import find_bridge

    environment = settings()
    if not is_loopback(host) and not tls and not insecure:
        raise SetupError(
            f"listening on {host} needs TLS, since tokens and data would cross the network in the clear. "
            "Add --tls, or --insecure if the network is trusted."
        )
    log_to_stderr()
    environment.home.rules.check()
    served: tuple[Path, Path] | None = None
    names: tuple[str, ...] = ()
    if tls:
        certificates = Certificates(environment.home.path)
        served = certificates.ensure("bridge", () if host in ("", "0.0.0.0", "::") else (host,))  # noqa: S104
        names = certificates.names("bridge")
    service = find_bridge()(
        environment.consumer(BRIDGE),
        host,
        port or environment.bridge_port,
        hosts=names,
        home=environment.home,
        tls=served,
    )
    serve(service.start, service.stop)
