"""The files of a provisioning folder, as texts by their paths in it. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sisock.errors import InvalidArgument
from sisock.grafana_bridge.provisioning.alerts import SOURCE, alerting
from sisock.grafana_bridge.provisioning.boards import BOARDS
from sisock.grafana_bridge.provisioning.scraping import scraping

DIALECTS = ("prometheus", "json", "simplejson")
# Where Grafana's packages and its image look.
FOLDER = "/etc/grafana/provisioning"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bridge is for Grafana, who Grafana is for the bridge, and where Grafana sees the folder.

    `secret` and `authority` are files on Grafana's machine: the secret of `user`, and the certificate by which the bridge
    is known. Grafana reads them, not we.
    """

    url: str = "http://localhost:5000"
    folder: str = FOLDER
    user: str | None = None
    secret: str | None = None
    authority: str | None = None

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InvalidArgument(f"{self.url!r} is no address of a bridge; it looks like http://localhost:5000")
        if not self.folder.startswith("/"):
            raise InvalidArgument(f"{self.folder!r} is no absolute path of a folder on Grafana's machine")
        if (self.user is None) != (self.secret is None):
            raise InvalidArgument("a user goes with a file that holds the secret, and a secret with a user")
        for path in (self.secret, self.authority):
            if path is not None and (not path.startswith("/") or "}" in path):
                raise InvalidArgument(f"{path!r} is no absolute path of a file on Grafana's machine")


# Of each dialect: the plugin's name in Grafana, the path at the bridge, and what stands at the top of its file.
_TYPES = {
    "prometheus": ("prometheus", "/prom", "sisock for every Grafana: its own Prometheus data source, which can alert."),
    "json": ("simpod-json-datasource", "", "sisock for the JSON plugin (simpod-json-datasource), which must be installed."),
    "simplejson": (
        "grafana-simple-json-datasource",
        "",
        "sisock for the SimpleJson plugin (Grafana 11 and older), which must be installed.",
    ),
}
# Queries as forms, since their addresses may be long; the version is the one whose answers the bridge gives.
_PROMETHEUS = {
    "httpMethod": "POST",
    "prometheusType": "Prometheus",
    "prometheusVersion": "3.0.0",
    "timeInterval": "5s",
    "manageAlerts": False,
}


def files(place: Place | None = None, dialects: Iterable[str] = ("prometheus",), *, alerts: bool = True) -> dict[str, str]:
    """The folder for a Grafana: data sources of these dialects, the dashboards with what loads them, and alert rules."""
    place = place or Place()
    found = {f"datasources/sisock-{dialect}.yaml": data_source(dialect, place) for dialect in dialects}
    found["dashboards/sisock.yaml"] = _provider(place)
    found |= {f"dashboards/sisock/{one.name}.json": json.dumps(one.to_json(), indent=2) + "\n" for one in BOARDS}
    return found | {"alerting/sisock.yaml": alerting()} if alerts else found


def committed() -> dict[str, str]:
    """The files that stand beside this module: for a bridge on this machine, which asks for no token."""
    others = {f"others/sisock-{dialect}.yaml": data_source(dialect, Place()) for dialect in DIALECTS[1:]}
    return files() | others | {f"prometheus/{name}": text for name, text in scraping().items()}


def data_source(dialect: str, place: Place) -> str:
    """The file of a data source."""
    kind, path, what = _TYPES[dialect]
    more = _PROMETHEUS if dialect == "prometheus" else {}
    name = SOURCE if dialect == "prometheus" else f"{SOURCE}-{dialect}"
    told = {**more, "tlsAuthWithCACert": True} if place.authority else more
    secrets = {"basicAuthPassword": place.secret, "tlsCACert": place.authority}
    lines = [
        f"# {what}",
        "# `sisock grafana` writes it for other addresses, users and certificates: see docs/how-to/grafana.md.",
        "apiVersion: 1",
        "datasources:",
        f"  - name: {name}",
        f"    uid: {name}",
        f"    type: {kind}",
        "    access: proxy",
        f"    url: {_text(place.url.rstrip('/') + path)}",
        "    editable: false",
    ]
    if place.user is not None:
        lines += ["    basicAuth: true", f"    basicAuthUser: {_text(place.user)}"]
    if told:
        lines += ["    jsonData:", *(f"      {key}: {json.dumps(value)}" for key, value in told.items())]
    if any(secrets.values()):
        # Grafana reads the files itself, so that no secret stands here.
        given = {key: f"$__file{{{path}}}" for key, path in secrets.items() if path}
        lines += ["    secureJsonData:", *(f"      {key}: {json.dumps(value)}" for key, value in given.items())]
    return "\n".join(lines + _hints(place)) + "\n"


def _hints(place: Place) -> list[str]:
    """What may be added by hand, where nothing of it was asked for."""
    if place.user is not None or place.authority is not None:
        return []
    return [
        "    # Where the bridge asks who comes, as beyond its own machine: a user of the site, whose secret is in a file,",
        "    # basicAuth: true",
        "    # basicAuthUser: grafana",
        "    # secureJsonData:",
        "    #   basicAuthPassword: $__file{/etc/grafana/sisock-secret}",
        "    # or a token in a header (add the first line to jsonData, the second to secureJsonData),",
        "    #   httpHeaderName1: Authorization",
        "    #   httpHeaderValue1: Bearer $__file{/etc/grafana/sisock-token}",
        "    # and for https with a certificate of the site's own authority (again one line for each):",
        "    #   tlsAuthWithCACert: true",
        "    #   tlsCACert: $__file{/etc/grafana/sisock-ca.pem}",
    ]


def _provider(place: Place) -> str:
    return "\n".join(
        [
            "# Loads the dashboards that stand in the folder sisock beside this file.",
            "apiVersion: 1",
            "providers:",
            "  - name: sisock",
            "    orgId: 1",
            "    folder: sisock",
            "    type: file",
            "    disableDeletion: false",
            "    # A change is saved as a copy, since these files come again.",
            "    allowUiUpdates: false",
            "    updateIntervalSeconds: 60",
            "    options:",
            f"      path: {_text(place.folder.rstrip('/') + '/dashboards/sisock')}",
            "",
        ]
    )


def _text(text: str) -> str:
    """A text as YAML has it; Grafana takes what follows a single $ from its environment."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)
