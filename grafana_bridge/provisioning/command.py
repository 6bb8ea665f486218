"""The command `sisock grafana`: writes what Grafana is provisioned with, for a bridge wherever it is."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sisock.cli.options import home_option, json_option, settings
from sisock.grafana_bridge.provisioning.files import DIALECTS, FOLDER, Place, files
from sisock.grafana_bridge.provisioning.writing import write


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="provisioning")
@click.option("--url", help="Where the bridge is for Grafana.  [the site in the home, or http://localhost:5000]")
@click.option(
    "--source",
    "dialects",
    type=click.Choice(DIALECTS),
    multiple=True,
    default=("prometheus",),
    show_default=True,
    help="Which data sources: prometheus is in every Grafana, the others are plugins.",
)
@click.option("--at", default=FOLDER, show_default=True, help="Where Grafana finds the folder.")
@click.option("--user", help="As whom Grafana asks the bridge: a user of the site.")
@click.option("--secret", metavar="FILE", help="Where Grafana finds a file with that user's secret.")
@click.option("--authority", metavar="FILE", help="Where Grafana finds the certificate by which an https bridge is known.")
@click.option("--alerts/--no-alerts", default=True, show_default=True, help="Alert rules as an example.")
@home_option
@json_option
def grafana(
    *,
    folder: Path,
    url: str | None,
    dialects: tuple[str, ...],
    at: str,
    user: str | None,
    secret: str | None,
    authority: str | None,
    alerts: bool,
    as_json: bool,
) -> None:
    """Write a folder with which Grafana is provisioned: data sources, dashboards, alert rules.

    FOLDER is `provisioning` unless another is named. Files of ours that are there are replaced, others are left alone.

    \b
    sisock grafana
    sisock grafana /etc/grafana/provisioning --no-alerts
    sisock grafana --url https://obs.example.org:5000 --user grafana --secret /etc/grafana/sisock-secret
    """  # noqa: D301
    home = settings().home
    run = home.run()
    place = Place(url or (run.bridge if run and run.bridge else Place().url), at, user, secret, authority)
    made = files(place, dict.fromkeys(dialects), alerts=alerts)
    write(folder, made)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "url": place.url, "files": sorted(made)}))
        return
    click.echo(
        f"{len(made)} files for a bridge at {place.url} are in {folder}. Let Grafana find them at {at}, and start it anew."
    )
    if secret is not None:
        click.echo(f"It reads the secret of {user} from {secret}; `sisock user add {user}` prints one.")
    if authority is not None:
        click.echo(f"It trusts what stands in {authority}: a copy of {home.path / '.crossbar' / 'server_cert.pem'}.")
    elif place.url.startswith("https:"):
        click.echo("Where the site's own authority made the certificate, say --authority, too.")
