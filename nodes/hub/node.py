"""The node `hub`: what passes the router, who came and went, and what the site's processes need, each 5 seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sisock import DataNode, Field, Timeline
from sisock.errors import SisockError
from sisock.home import Home
from sisock.nodes.hub.source import Processes, Traffic
from sisock.uris import FIGURES, HUB

_EVENTS = "events"


class HubHealth(DataNode):
    """How the hub is: what passes it, who came and went, what its processes need."""

    name = HUB
    description = "How the hub is: what passes it, who came and went, what its processes need."
    interval = 5.0
    max_rows = 200_000
    timelines: Mapping[str, Timeline] = {"t": Timeline(interval=5.0), _EVENTS: Timeline()}
    fields: Mapping[str, Field] = {
        "nodes": Field("Nodes that are there"),
        "sessions": Field("Sessions of nodes, consumers and bridges"),
        "calls": Field("Calls that came", "1/s"),
        "errors": Field("Errors that were answered", "1/s"),
        "publications": Field("Publications that came", "1/s"),
        "events": Field("Events that went out, one a reader", "1/s"),
        "latency": Field("From a call to its answer, mean", "s"),
        "latency_max": Field("From a call to its answer, the slowest", "s"),
        "event": Field("What happened to a node: came, went, or corrected", type="string", timeline=_EVENTS),
        "event.node": Field("The node to which it happened", type="string", timeline=_EVENTS),
        "event.start": Field("Of a correction, its beginning", "s", timeline=_EVENTS),
        "event.end": Field("Of a correction, its end", "s", timeline=_EVENTS),
    }

    def __init__(self) -> None:
        super().__init__()
        home = Home.default()
        self._processes = Processes(lambda: _pids(home))
        self._traffic = Traffic()
        # The life of the router, and the last thing in it that is kept here.
        self._life: str | None = None
        self._seen = 0

    def start(self) -> None:
        """Declares the parts that there are, so that the node is complete when it is announced."""
        self._declare(self._processes.read())

    def sample(self) -> dict[str, float | None]:
        """One row: of the processes, and of the router as far as it can be asked."""
        row = self._processes.read()
        self._declare(row)
        return row | self._of_router()

    def _of_router(self) -> dict[str, float | None]:
        ask = self.ask_router
        if ask is None:
            self._traffic.forget()
            return {}
        try:
            figures = ask(FIGURES, self._seen)
            if figures["life"] != self._life:
                # Another router, which counts anew.
                self._life, self._seen = figures["life"], 0
                figures = ask(FIGURES, 0)
        except SisockError as error:
            self._traffic.forget()
            self.health.errors += 1
            self.health.last_error = f"the router did not tell its figures: {error}"
            return {}
        self._keep_events(figures["happened"])
        return self._traffic.row(figures)

    def _keep_events(self, happened: list[list[Any]]) -> None:
        last = 0.0
        for number, t, node, what, start, end in happened:
            # Two in the same microsecond are two.
            last = max(t, last + 2e-6)
            row = {"event": what, "event.node": node, "event.start": start, "event.end": end}
            # What is there already, since this node began anew beside a router that did not, is left as it is.
            self.append(_EVENTS, last, row, correct=True).result()
            self._seen = number

    def _declare(self, row: Mapping[str, float | None]) -> None:
        fields = {}
        for name in row:
            kind, _, part = name.partition(".")
            if name not in self.fields and part:
                text = "Memory" if kind == "memory" else "Share of a processor"
                units, labels = "B" if kind == "memory" else "%", {"quantity": kind, "part": part}
                fields[name] = Field(f"{text} of the part {part}", units, labels=labels)
        if fields:
            self.declare(fields)


def _pids(home: Home) -> dict[str, int]:
    """The processes of the site that runs in a home."""
    run = home.run()
    return {} if run is None else dict(run.pids)
