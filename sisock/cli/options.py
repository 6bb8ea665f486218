"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sisock import trace
from sisock.home import Home
from sisock.settings import Settings


def _set_home(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.find_root().meta["home"] = Home(value.expanduser().absolute())


home_option: Callable[[Any], Any] = click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    expose_value=False,
    callback=_set_home,
    help="The site's folder: state, secrets, logs.  [$SISOCK_HOME, or ~/.sisock]",
)

json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def settings() -> Settings:
    """The settings of this call: the environment's, and --home wherever it stands."""
    found = Settings.read(home=click.get_current_context().find_root().meta.get("home"))
    if found.trace:
        trace.enable()
    return found
