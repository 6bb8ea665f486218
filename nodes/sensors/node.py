"""The node `sensors`: the host it runs on, each 2.5 seconds."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping

from sisock import DataNode, Field, Timeline
from sisock.nodes.sensors.source import Host, Reading

log = logging.getLogger(__name__)


class Sensors(DataNode):
    """The results of the UNIX 'sensors' command."""

    name = "sensors"
    description = "The results of the UNIX 'sensors' command."
    interval = 2.5
    timelines: Mapping[str, Timeline] = {"t": Timeline(interval=2.5, lateness=10.0)}
    max_rows = 100_000

    def __init__(self) -> None:
        super().__init__()
        self.host = Host()
        self.faults: Counter[str] = Counter()
        """How often each probe failed."""

    def start(self) -> None:
        """Declares what there is, so that the node is complete when it is announced."""
        self._declare(self.host.survey())

    def sample(self) -> dict[str, float | None]:
        """One value of each field; None where it is not known at present."""
        reading = self.host.read()
        self._declare(reading)
        self._count(reading)
        return {quantity.name: quantity.value for quantity in reading.quantities}

    def _declare(self, reading: Reading) -> None:
        found = {q.name: Field(description=q.description, units=q.units, labels=q.labels) for q in reading.quantities}
        changed = {name: spec for name, spec in found.items() if self.fields.get(name) != spec}
        if changed:
            self.declare(changed)

    def _count(self, reading: Reading) -> None:
        for probe, text in reading.faults.items():
            self.faults[probe] += 1
            self.health.errors += 1
            self.health.last_error = f"{probe}: {text}"
            if self.faults[probe] == 1:
                log.warning("%s cannot be read, its fields are null: %s", probe, text)
