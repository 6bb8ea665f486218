"""The command `doctor`: what is wrong, and what to do."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from sisock.cli.options import home_option, json_option, settings

_MARKS = {"ok": "  ok     ", "note": "  note   ", "warning": "! warning", "error": "X error  "}


@click.command()
@home_option
@json_option
def doctor(as_json: bool) -> None:
    """Look at the site from all sides and say what is wrong and what to do.

    Ports, credentials, certificate, clock, versions, disk, processes, nodes, and what the environment changes. The exit
    status is 1 if something is an error.
    """
    from sisock.cli.reacting import finish
    from sisock.site.doctor import look
    from sisock.site.visit import ask

    found = settings()
    findings = look(found)
    findings += finish(lambda: ask(found))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{_MARKS[finding.level]}  {finding.about}: {finding.what}")
            if finding.remedy:
                click.echo(f"             -> {finding.remedy}")
    if any(finding.level == "error" for finding in findings):
        sys.exit(1)
